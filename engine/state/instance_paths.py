"""The paths of one sandbox: its files, its sockets, its keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from engine.errors import EngineError
from engine.state.roots import CONTROL, RECORD, SOCKET_PATH_MAX


class Sockets:
    """The unix sockets of one machine, in a `directory` of its own. The caller makes the directory, with mode 0700."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def control(self) -> Path:
        return self._socket(CONTROL)

    def mount(self, number: int) -> Path:
        return self._socket(f"mount-{number}.sock")

    def _socket(self, name: str) -> Path:
        path = self.directory / name
        if len(os.fsencode(path)) > SOCKET_PATH_MAX:
            raise EngineError(
                f"the path of a socket is too long: {path}",
                details=f"the operating system allows {SOCKET_PATH_MAX} bytes",
                hint="set SANDBOX_RUNTIME_DIR to a shorter directory, or choose a shorter name",
            )
        return path


class SshPaths(NamedTuple):
    """The keys of one sandbox, and what ssh reads about it. They are all there, or the directory is not."""

    directory: Path

    @property
    def host_key(self) -> Path:
        return self.directory / "host_key"

    @property
    def identity(self) -> Path:
        return self.directory / "id_ed25519"

    @property
    def public_identity(self) -> Path:
        return self.directory / "id_ed25519.pub"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def config(self) -> Path:
        return self.directory / "config"


class KeptPaths(NamedTuple):
    """A sandbox that waits: what its supervisor knew, and of a paused one the files of vmm.suspension."""

    directory: Path

    @property
    def machine(self) -> tuple[Path, ...]:
        """What vmm.suspension writes."""
        return tuple(self.directory / name for name in ("ram", "state", "meta.json"))

    @property
    def launch(self) -> Path:
        return self.directory / "launch.json"

    @property
    def temporary(self) -> Path:
        return self.directory / "temporary.json"

    @property
    def authority(self) -> Path:
        return self.directory / "authority.pem"


class ForkPaths(NamedTuple):
    """What a running sandbox was at one moment, for those that begin there: a machine and what its supervisor knew.

    One that is kept under a name has its record, too, and what its private copies were made of.
    """

    directory: Path

    @property
    def disk(self) -> Path:
        return self.directory / "disk.qcow2"

    @property
    def about(self) -> Path:
        """Which machine it is of, and which read-only disks that has."""
        return self.directory / "meta.json"

    @property
    def held(self) -> Path:
        """Locked by the processes that still need all of it."""
        return self.directory / "held"

    @property
    def aside(self) -> KeptPaths:
        return KeptPaths(self.directory)

    @property
    def record(self) -> Path:
        return self.directory / "instance.json"

    @property
    def configuration(self) -> Path:
        return self.directory / "configuration.json"

    @property
    def clones(self) -> Path:
        return self.directory / "clones"


class InstancePaths(NamedTuple):
    """The paths of one sandbox: its files are in `directory`, its sockets in `sockets`."""

    directory: Path
    sockets: Sockets

    @property
    def record(self) -> Path:
        return self.directory / RECORD

    @property
    def configuration(self) -> Path:
        return self.directory / "configuration.json"

    @property
    def supervisor_log(self) -> Path:
        return self.directory / "supervisor.log"

    @property
    def console_log(self) -> Path:
        return self.directory / "console.log"

    @property
    def old_console_log(self) -> Path:
        """The older part of the console's log: vmm.console.Console moves it there when the log gets too long."""
        return self.console_log.with_suffix(".old.log")

    @property
    def journal(self) -> Path:
        return self.directory / "journal.jsonl"

    @property
    def troubles(self) -> Path:
        return self.directory / "troubles.json"

    @property
    def disk(self) -> Path:
        return self.directory / "disk.qcow2"

    @property
    def next_disk(self) -> Path:
        """A disk above that one, which takes its place."""
        return self.directory / "next.qcow2"

    def layers(self) -> list[Path]:
        """The disks below its own one that it has from being forked."""
        return sorted(self.directory.glob("layer-*.qcow2"))

    def free_layer(self) -> Path:
        """The path for one more."""
        numbers = [int(path.stem.removeprefix("layer-")) for path in self.layers()]
        return self.directory / f"layer-{max(numbers, default=0) + 1}.qcow2"

    @property
    def clones(self) -> Path:
        return self.directory / "clones"

    def clone(self, number: int) -> Path:
        """The directory with the base of one of its clones."""
        return self.clones / str(number)

    @property
    def paused(self) -> KeptPaths:
        """It is paused while this is here."""
        return KeptPaths(self.directory / "paused")

    @property
    def pausing(self) -> KeptPaths:
        """The same before it is whole, and after the sandbox has gone on."""
        return KeptPaths(self.directory / "paused.new")

    @property
    def stopped(self) -> KeptPaths:
        """It can be started from its disk while this is here and its supervisor is not."""
        return KeptPaths(self.directory / "stopped")

    @property
    def stopping(self) -> KeptPaths:
        """The same before it is whole, and after the sandbox was started again."""
        return KeptPaths(self.directory / "stopped.new")

    @property
    def ssh(self) -> SshPaths:
        return SshPaths(self.directory / "ssh")
