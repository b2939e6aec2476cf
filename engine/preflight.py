"""Checks of a valid file against the host it is to run on: reads the world, changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from engine.loopback import port_is_free
from sandboxfile import Diagnostic, Loaded, SandboxfileError
from sandboxfile.pending import not_yet
from sandboxfile.services import published_ports
from vmm.spec import SPARE_PORTS

GIB = 1024**3


def check_host(loaded: Loaded, *, ports: bool = True) -> None:
    """Raises SandboxfileError with everything this host or this version cannot do, each with its place.

    `ports` also looks whether the host's ports are free: not for a sandbox that already runs, which holds them itself.
    """
    problems = [loaded.diagnostic(path, message) for path, message in not_yet(loaded.sandbox)]
    problems += [*_check_machine(loaded), *_check_mounts(loaded)]
    if ports:
        problems += _check_ports(loaded)
    if problems:
        raise SandboxfileError(tuple(problems))


def host_memory() -> int:
    """Bytes of physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _check_machine(loaded: Loaded) -> Iterator[Diagnostic]:
    have, wanted = host_memory(), loaded.sandbox.machine.memory
    if wanted > have:
        yield loaded.diagnostic(
            ("machine", "memory"), f"{wanted / GIB:.1f} GiB is more than this host has ({have / GIB:.1f} GiB)"
        )


def _check_mounts(loaded: Loaded) -> Iterator[Diagnostic]:
    for index, mount in enumerate(loaded.sandbox.mounts):
        source = loaded.project / Path(mount.source).expanduser()
        place = ("mounts", index, "source")
        if not source.exists():
            hint = f"make it first: mkdir -p {source}"
            yield loaded.diagnostic(place, f"{mount.source!r} does not exist on this host", hint)
        elif not source.is_dir():
            yield loaded.diagnostic(place, f"{mount.source!r} is not a directory", "mount the directory that holds it")
        elif not os.access(source, os.R_OK | os.X_OK):
            yield loaded.diagnostic(place, f"{mount.source!r} cannot be read by you")
    if len(loaded.sandbox.mounts) > SPARE_PORTS:
        yield loaded.diagnostic(("mounts", SPARE_PORTS), f"a machine has room for {SPARE_PORTS} mounts")


def _check_ports(loaded: Loaded) -> Iterator[Diagnostic]:
    wanted: list[tuple[tuple[str | int, ...], int | None]] = [
        (("ports", index), port.host) for index, port in enumerate(loaded.sandbox.ports)
    ]
    for service, host_port, _, _ in published_ports(loaded.sandbox.services):
        wanted.append((("services", service, "ports"), host_port))
    for place, port in wanted:
        if port is None:
            continue
        try:
            free = port_is_free(port)
        except PermissionError:
            yield loaded.diagnostic(place, f"you may not listen on port {port}", "choose one above 1023")
            continue
        if not free:
            hint = f"choose another, or find who has it: ss -ltnp 'sport = :{port}'"
            yield loaded.diagnostic(place, f"port {port} of this host is in use", hint)
