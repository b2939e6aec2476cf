"""What the guest of a running sandbox asks the user to allow, in one line, as it changes."""

from __future__ import annotations

import contextlib

from engine.errors import EngineError
from engine.state.instances import load_instance
from engine.state.layout import Layout


class OpenAsks:
    """Those of the sandbox `name`, read again only when its record has changed."""

    def __init__(self, layout: Layout, name: str) -> None:
        self._layout = layout
        self._name = name
        self._path = layout.instance(name).record
        self._seen: tuple[int, int] | None = None
        self._words = ""

    def words(self) -> str:
        """ "" while there are none, and where nobody can tell."""
        with contextlib.suppress(OSError, EngineError):
            now = self._path.stat()
            if (seen := (now.st_mtime_ns, now.st_ino)) != self._seen:
                record = load_instance(self._layout, self._name)
                self._words = _in_one_line(self._name, [str(ask.get("host")) for ask in record.asks] if record else [])
                self._seen = seen
        return self._words


def _in_one_line(name: str, hosts: list[str]) -> str:
    if not hosts:
        return ""
    more = f" and {len(hosts) - 1} more" if len(hosts) > 1 else ""
    return f"{name} asks for {hosts[0]}{more}: sandbox journal --asks"
