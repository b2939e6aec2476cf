"""What keeps the sandbox from working now, as it comes and goes: said in the journal, in the log and in `ls`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from engine.gateway.journal import Journal, JournalLine
from engine.report.sizes import size
from engine.report.text import clean_line
from engine.secrets.redaction import redact_held
from engine.state.instance_paths import InstancePaths
from engine.state.troubles import make_troubles, write_troubles
from engine.workspaces.mount_point import MountPoint
from vmm.fileserver import quota


class Troubles:
    """Those of one sandbox; `log` is its supervisor's. Raises OSError when there is no room for its file."""

    def __init__(self, paths: InstancePaths, journal: Journal, log: Callable[[str], object]) -> None:
        self._path = paths.troubles
        self._journal = journal
        self._log = log
        self._now: dict[str, str] = {}
        make_troubles(self._path)

    @property
    def now(self) -> tuple[str, ...]:
        return tuple(self._now.values())

    def begin(self, key: str, text: str) -> None:
        """`key` is in trouble, or in another one than before."""
        text = clean_line(redact_held(text))
        if self._now.get(key) != text:
            self._now[key] = text
            self._say(text)

    def end(self, key: str) -> None:
        """It is over, if there was one."""
        if (text := self._now.pop(key, None)) is not None:
            self._say(f"no longer: {text}")

    def _say(self, text: str) -> None:
        self._log(text)
        self._journal.write(JournalLine(port=0, reason=text))
        with contextlib.suppress(OSError):
            write_troubles(self._path, self.now)


def told_of_room(troubles: Troubles, mount: MountPoint, word: str) -> None:
    """A file server says what has no room, or that there is room again."""
    if word == quota.ROOM:
        troubles.end(mount.target)
        return
    why = {
        quota.DISK: f"the disk of {mount.source} on this host is as full as the machine may make it",
        quota.FILES: f"{mount.source} on this host has as many files as the machine may make",
        quota.LIMIT: f"the machine has added its limit of {size(mount.limit or 0)} to {mount.source}",
    }[word]
    troubles.begin(mount.target, f"{mount.target} takes no more: {why}")
