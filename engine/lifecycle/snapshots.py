"""Named snapshots: what a running sandbox was at one moment, kept until the user removes it; and beginning there."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.build.chain import machine_shape
from engine.build.foundation import load_verdict
from engine.cache.store import Store
from engine.decoding import decode
from engine.errors import EngineError
from engine.files import make_private, read_json, write_json
from engine.lifecycle.fork import Written, forkable, write_fork
from engine.lifecycle.forks import below, disks, forks_locked, new_fork, sweep_forks
from engine.lifecycle.from_fork import (
    copy_current_bases,
    launch_of,
    own_ports,
    read_launch,
    ready,
    start_there,
    taken_ports,
)
from engine.resolve.host_ports import port_is_free
from engine.state.configuration import Running, load_running, recorded
from engine.state.instances import Instance, claim, hold_name
from engine.state.locks import is_locked
from engine.state.trees import disk_usage, remove_tree, sync, sync_tree
from vmm.spec import HostForward

if TYPE_CHECKING:
    from engine.state.instance_paths import ForkPaths
    from engine.state.layout import Layout
    from sandboxfile import Loaded

# The sections of a file that a snapshot must have been made with: what its machine is, and what it may reach.
BINDING = ("machine", "endpoints", "secrets", "mounts")
_PROCESSORS = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Kept:
    """One named snapshot. `record` is that of the sandbox it was taken of; None where it cannot be read."""

    label: str
    record: Instance | None
    taken: datetime
    size: int

    def to_json(self) -> dict[str, Any]:
        record = (
            {"of": self.record.name, "project": self.record.project, "file": self.record.file} if self.record else {}
        )
        return {"label": self.label, "taken": self.taken.isoformat(timespec="seconds"), "size": self.size, **record}


async def take_snapshot(layout: Layout, name: str, label: str) -> tuple[Kept, Written]:
    """Keep what the running sandbox `name` is now as `label`; it runs on. Returns how it was written, too.

    All of it is on the disk when this returns. Raises EngineError, also where there is one of that name, and VmmError.
    """
    kept = layout.snapshot(label)
    with new_fork(layout) as there, hold_name(layout, name):
        source = forkable(layout, name)
        _check_free(kept, label)
        await copy_current_bases(layout.instance(name).clones, there.clones)
        written = await write_fork(layout, name, there)
        _keep_denials(there)
        running = load_running(layout, name)
        if running is None:
            raise EngineError(f"what {name} runs with cannot be read", hint="`sandbox up --recreate` makes a new one")
        write_json(there.record, {**source.to_json(), "processor": _processor()})
        write_json(there.configuration, recorded(running))
        await asyncio.to_thread(sync_tree, there.directory)
        make_private(layout.snapshots)
        with forks_locked(layout):
            _check_free(kept, label)
            there.directory.rename(kept.directory)
        await asyncio.to_thread(sync, layout.snapshots)
    return _kept(layout, label), written


def _keep_denials(there: ForkPaths) -> None:
    """Of what was said for the time being: the file says what one that begins there may reach, and no more may be.

    What was allowed and saved, and taken out of the file again, would be allowed by it otherwise.
    """
    try:
        said = [one for one in read_json(there.aside.temporary) if one["endpoint"]["deny"]]
        write_json(there.aside.temporary, said)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError("what was allowed and denied for the time being cannot be read", str(error)) from error


def _check_free(kept: ForkPaths, label: str) -> None:
    if kept.directory.exists():
        raise EngineError(f"there is a snapshot called {label}", hint=f"`sandbox snapshot --rm {label}` removes it")


def list_snapshots(layout: Layout) -> list[Kept]:
    """All named snapshots, by name."""
    found = sorted(layout.snapshots.iterdir()) if layout.snapshots.is_dir() else []
    return [_kept(layout, path.name) for path in found]


def remove_snapshot(layout: Layout, label: str) -> Kept:
    """Remove it. Raises EngineError where there is none, and while the disk of a sandbox lies over it."""
    kept = layout.snapshot(label)
    _check_there(layout, label)
    with forks_locked(layout):
        starting = is_locked(kept.held)  # before the disks: who lets go has made its own
        users = {disk.parent.name for disk in disks(layout) if kept.disk.resolve() in below(disk)}
        if users or starting:
            who = ", ".join(sorted(users)) or "a sandbox that is starting"
            hint = "`sandbox down` removes a sandbox, `sandbox snapshot --rm` another snapshot"
            raise EngineError(f"{who} began at {label}, and needs it", hint=hint)
        found = _kept(layout, label)
        remove_tree(kept.directory)
    sweep_forks(layout)
    return found


def _check_there(layout: Layout, label: str) -> None:
    if not layout.snapshot(label).directory.is_dir():
        names = ", ".join(kept.label for kept in list_snapshots(layout))
        hint = f"there is: {names}" if names else "`sandbox snapshot LABEL` takes one of a running sandbox"
        raise EngineError(f"there is no snapshot called {label}", hint=hint, exit_code=2)


def _kept(layout: Layout, label: str) -> Kept:
    kept = layout.snapshot(label)
    taken = datetime.fromtimestamp(kept.directory.stat().st_mtime, UTC)
    record = None
    with contextlib.suppress(EngineError):
        record = _read(kept)[0]
        taken = datetime.fromtimestamp(kept.record.stat().st_mtime, UTC)
    return Kept(label, record, taken, disk_usage(kept.directory))


def _read(kept: ForkPaths) -> tuple[Instance, Running, str]:
    """The record, what it ran with, and the processor that its machine had."""
    try:
        plain = dict(read_json(kept.record))
        processor = str(plain.pop("processor"))
        ran_with = {name: value for name, value in read_json(kept.configuration).items() if name != "version"}
        return decode(Instance, plain), decode(Running, ran_with), processor
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"the snapshot in {kept.directory} cannot be read", str(error)) from error


async def start_from(
    layout: Layout, loaded: Loaded, label: str, name: str | None, on_event: Callable[[str], None]
) -> tuple[Instance, float]:
    """Start a sandbox where a named snapshot is; returns its record and how long that took, in seconds.

    `loaded` is the file as it is now, which the user has agreed to; it must ask for the same machine, and allow the
    same. `name` is that of the sandbox; default: the one of the snapshot's. Raises EngineError.
    """
    began = time.monotonic()
    _check_there(layout, label)
    kept = layout.snapshot(label)
    with _used(kept):
        record, running, processor = _read(kept)
        launch = read_launch(kept)
        _check_file(loaded, label, record, running)
        shape = machine_shape(loaded, load_verdict(Store(layout)))
        if launch.shape != shape or (shape.accelerator != "tcg" and processor != _processor()):
            raise EngineError(
                f"{label} was made by another QEMU, accelerator, processor or size of machine, and cannot be restored",
                details=f"then: {launch.shape}, {processor}\nnow: {shape}, {_processor()}",
                hint="`sandbox up` starts anew",
            )
        name = name or record.name
        with claim(layout, name, loaded.project):
            if layout.instance(name).directory.exists():
                raise EngineError(
                    f"there is a sandbox called {name}", hint="--name chooses another name, or `sandbox down`"
                )
            new = launch_of(launch, kept, name, _ports(layout, launch.forwards))
            clone = await start_there(layout, record, running, name, ready(new), on_event)
            return clone, time.monotonic() - began


def _check_file(loaded: Loaded, label: str, record: Instance, running: Running) -> None:
    if Path(record.file) != loaded.path or record.agent_name != loaded.agent_name:
        raise EngineError(f"{label} is a snapshot of another sandbox: {record.file}", hint="`sandbox snapshot --list`")
    now = loaded.sandbox.model_dump(mode="json", by_alias=True)
    if changed := [part for part in BINDING if now.get(part) != running.configuration.sandbox.get(part)]:
        raise EngineError(
            f"{loaded.path.name} has another {', '.join(changed)} section than when {label} was taken",
            hint="a snapshot is restored with what was approved for it; `sandbox up` starts what the file says now",
        )


def _ports(layout: Layout, forwards: tuple[HostForward, ...]) -> tuple[HostForward, ...]:
    """Those of the snapshot where they are free, else the next ones."""
    taken, found = taken_ports(layout), list[HostForward]()
    for forward in forwards:
        free = False
        with contextlib.suppress(OSError):
            free = forward.host_port not in taken and port_is_free(forward.host_port)
        found += [forward] if free else own_ports((forward,), taken)
        taken.add(found[-1].host_port)
    return tuple(found)


@contextlib.contextmanager
def _used(kept: ForkPaths) -> Iterator[None]:
    """Within the block nobody removes it. Others may begin there, too."""
    try:
        descriptor = os.open(kept.held, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EngineError(f"the snapshot in {kept.directory} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _processor() -> str:
    """What a machine on this host's own processors has of them; nothing of it counts for an emulated one."""
    try:
        lines = _PROCESSORS.read_text().splitlines()
    except OSError:
        return ""
    wanted = ("model name", "flags", "Features", "CPU part")
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    from engine.state.keys import bytes_key

    facts = "\n".join(f"{key}: {found[key]}" for key in wanted if key in found)
    return f"{found.get('model name', 'a processor')} ({bytes_key(facts.encode())[:12]})"
