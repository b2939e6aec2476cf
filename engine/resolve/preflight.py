"""Checking a valid file against the host that it is to run on. Nothing here changes anything."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from engine.agents.use import unknown_agents
from engine.errors import EngineError
from engine.resolve.capacity import host_memory
from engine.resolve.copied_paths import check_copied
from engine.resolve.mounts_and_ports import wanted_file
from engine.resolve.paths import real_source
from engine.workspaces.own_directories import why_not_local
from sandboxfile import Diagnostic, Loaded, SandboxfileError
from sandboxfile.compose.services import published_ports
from sandboxfile.positions import KeyPath

GIB = 1024**3


def check_host(loaded: Loaded, *, ports: bool = True, held: Collection[int] = ()) -> None:
    """Raise SandboxfileError with everything in the file that this host or this version cannot do.

    `ports` also checks that the ports of the host are free, except those in `held`, which the sandbox has itself.
    Raises EngineError (exit code 2) when the project's directory cannot be opened.
    """
    problems = [*unknown_agents(loaded), *_check_machine(loaded), *_check_mounts(loaded), *check_copied(loaded)]
    if ports:
        problems += _check_ports(loaded, held)
    if problems:
        raise SandboxfileError(tuple(problems))


def _check_machine(loaded: Loaded) -> Iterator[Diagnostic]:
    available, asked = host_memory(), loaded.sandbox.machine.memory
    if asked > available:
        message = f"{asked / GIB:.1f} GiB is more than this host has ({available / GIB:.1f} GiB)"
        yield loaded.diagnostic(("machine", "memory"), message)


def _check_mounts(loaded: Loaded) -> Iterator[Diagnostic]:
    for index, mount in enumerate(loaded.sandbox.mounts):
        place: KeyPath = ("mounts", index, "source")
        try:
            source = loaded.project / Path(mount.source).expanduser()
            exists, is_directory = source.exists(), source.is_dir()
        except (RuntimeError, OSError) as error:  # ~nobody; a loop of links; a directory that may not be entered
            yield loaded.diagnostic(place, f"{mount.source!r} cannot be used: {getattr(error, 'strerror', error)}")
            continue
        if not exists:
            yield loaded.diagnostic(
                place, f"{mount.source!r} does not exist on this host", f"make it first: mkdir -p {source}"
            )
        elif not is_directory:
            yield from _check_file(loaded, index, source)
        elif not os.access(source, os.R_OK | os.X_OK):
            yield loaded.diagnostic(place, f"{mount.source!r} cannot be read by you")
        elif mount.mode != "clone":
            yield from _check_local(loaded, index)


def _check_file(loaded: Loaded, index: int, source: Path) -> Iterator[Diagnostic]:
    mount, place = loaded.sandbox.mounts[index], ("mounts", index, "source")
    if not source.is_file():
        yield loaded.diagnostic(place, f"{mount.source!r} is neither a directory nor a file")
    elif index == 0:
        message = f"{mount.source!r} is a file, and in the first mount's directory commands are run"
        yield loaded.diagnostic(place, message, "list a mount of a directory first")
    elif not os.access(source, os.R_OK):
        yield loaded.diagnostic(place, f"{mount.source!r} cannot be read by you")
    elif mount.mode == "clone":
        yield loaded.diagnostic(("mounts", index, "mode"), f"{mount.source!r} is a file, and a clone is of a directory")
    else:
        try:
            wanted_file(loaded, mount, real_source(loaded.project, mount.source))
        except EngineError as error:
            yield loaded.diagnostic(place, error.brief, error.hint)
    for key in ("hide", "local"):
        if getattr(mount, key):
            message = f"{mount.source!r} is a file: there is nothing in it to name here"
            yield loaded.diagnostic(("mounts", index, key), message)


def _check_local(loaded: Loaded, index: int) -> Iterator[Diagnostic]:
    mount = loaded.sandbox.mounts[index]
    for at, path in enumerate(mount.local):
        try:
            problem = why_not_local(real_source(loaded.project, mount.source), path, mount.hide)
        except ValueError:  # of `hide`, which is refused elsewhere
            continue
        if problem is not None:
            yield loaded.diagnostic(("mounts", index, "local", at), f"{path!r}: {problem[0]}", problem[1])


def _check_ports(loaded: Loaded, held: Collection[int]) -> Iterator[Diagnostic]:
    from engine.resolve.host_ports import port_is_free

    ports: list[tuple[KeyPath, int | None]] = [
        (("ports", index), port.host) for index, port in enumerate(loaded.sandbox.ports)
    ]
    for service, host_port, _, protocol in published_ports(loaded.sandbox.services):
        if protocol == "tcp":  # ports of other protocols are published in the guest only
            ports.append((("services", service, "ports"), host_port))
    for place, port in ports:
        if port is None or port in held:
            continue
        try:
            free = port_is_free(port)
        except PermissionError:
            yield loaded.diagnostic(place, f"you may not listen on port {port}", "choose one above 1023")
            continue
        if not free:
            hint = f"choose another, or find who has it: ss -ltnp 'sport = :{port}'"
            yield loaded.diagnostic(place, f"port {port} of this host is in use", hint)
