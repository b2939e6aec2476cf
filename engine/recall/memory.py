"""Starts that were carried out, each in a file: an `up` of the same words starts from there if nothing has changed."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.recall.looks import Looks, changed

if TYPE_CHECKING:
    from engine.state.layout import Layout

VERSION = 1
LONGEST_S = 24 * 3600.0  # after a day everything is read again: what the host's clients answer may change unseen
_SALT = 16


class Start(NamedTuple):
    """What a start came to, as JSON values: the supervisor's Launch without values of the user's environment, the
    sandbox's record before it ran, and its Configuration. `needs` are variables that the Launch carries values of, and
    `entries` the cache entries that it is started from.
    """

    launch: Mapping[str, Any]
    record: Mapping[str, Any]
    running: Mapping[str, Any]
    needs: Sequence[str]
    entries: Sequence[str]


def words_of(path: str, name: str | None, *, yes: bool) -> tuple[str, ...]:
    """What makes two calls of `up` the same one: options that do not change what is started are left out."""
    return ("up", os.getcwd(), path, name or "", "yes" if yes else "")  # noqa: PTH109 - pathlib takes longer to load


def remember(layout: Layout, words: Sequence[str], start: Start, looks: Looks) -> None:
    """Keep a start under the words of its `up`. Does nothing where the looks are not whole. Raises OSError."""
    if not looks.whole:
        return
    from engine.files import write_json

    note_program(looks)
    seen = looks.to_json(os.urandom(_SALT))
    if not looks.whole or changed(seen, os.environ):
        return  # also what this very `up` has written, such as an approval: taken back, it must be missed
    path = layout.remembered(_key(words))
    write_json(path, {"version": VERSION, "host": _host(), "looks": seen, **start._asdict()})
    for other in path.parent.iterdir():
        if other.stat().st_mtime < time.time() - LONGEST_S:
            other.unlink(missing_ok=True)


def recall(layout: Layout, words: Sequence[str], environment: Mapping[str, str], now: float) -> Start | None:
    """The start that was kept under these words; None where there is none, or anything is not as it was then.

    `now` is in seconds since the epoch.
    """
    path = layout.remembered(_key(words))
    try:
        age = now - path.stat().st_mtime
        value = json.loads(path.read_bytes())
        if value["version"] != VERSION or value["host"] != _host() or not -LONGEST_S < age < LONGEST_S:
            return None
        if changed(value["looks"], environment):
            return None
        start = Start(**{name: value[name] for name in Start._fields})
        return start if all(layout.entry_marker(Path(entry)).exists() for entry in start.entries) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # there is none, or it is damaged or of another version


def forget(layout: Layout, words: Sequence[str]) -> None:
    """Remove what was kept under these words; no error where there is nothing."""
    layout.remembered(_key(words)).unlink(missing_ok=True)


def _host() -> list[object]:
    """Which accelerator boots a guest depends on the kernel; and what another installation of ours has kept names its
    own files, which are as they were whatever we are."""
    kernel = os.uname()
    return [sys.hexversion, sys.prefix, __file__, kernel.release, kernel.machine]


def note_program(looks: Looks) -> None:
    """What we are ourselves made of is looked at, too: another version may start a sandbox differently."""
    ours = {name.partition(".")[0] for name in ("engine", "sandboxfile", "vmm")}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in ours and file:
            looks.add(file, True, "content")


def _key(words: Sequence[str]) -> str:
    from _blake2 import blake2b

    return blake2b(json.dumps(list(words)).encode(), digest_size=8).hexdigest()
