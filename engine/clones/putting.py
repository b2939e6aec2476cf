"""Putting files of this host into a clone: a program of ours does it in the guest, all of them or none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.clones import into_guest
from engine.clones.base import Entry
from engine.errors import EngineError
from vmm.channel.archive import GUEST_UID
from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel

STATE = "/var/lib/sandbox"
PUT_S = 600.0
MOST_BYTES = 512 << 20
# What the guest may say of a file that it leaves as it is.
_WHY = {
    "above": "a file or a link of the copy is where its directory should be",
    "kind": "in the copy, something that is no file is in its place",
    "changed": "the copy has another one, which git ignores there or which was changed meanwhile",
}


@dataclass(frozen=True)
class Put:
    """One file or link of a clone: `before` is what it is there, and `after` what it will be; None for no file."""

    path: str
    before: Entry | None
    after: Entry | None
    content: bytes = field(default=b"", repr=False)


async def put_into_guest(channel: GuestChannel, target: str, puts: Sequence[Put]) -> dict[str, str]:
    """Make them true in the clone at `target`. Returns the paths of those that stay as they are there, and why.

    What was there before is kept until `keep` or `put_back`. Waits PUT_S. Raises GuestError for a guest that cannot,
    and EngineError for a file that was changed in the meantime; then nothing in the clone has changed.
    """
    if sum(len(put.content) for put in puts) > MOST_BYTES:
        raise EngineError(f"more than {MOST_BYTES >> 20} MiB would go into the copy", hint="name a part of it")
    steps = [[put.path, _told(put.before), _told(put.after), len(put.content)] for put in puts]
    stdin = b"".join([json.dumps(steps).encode(), b"\n", *(put.content for put in puts)])
    answer = await _run(channel, "put", target, stdin)
    paths = {put.path for put in puts}
    changed, left = answer.get("changed"), answer.get("left")
    if isinstance(changed, str) and changed in paths:
        raise EngineError(f"nothing was synced: {changed}: it was changed meanwhile in the copy", hint="do it again")
    if not isinstance(left, dict) or not left.keys() <= paths:
        raise GuestError("the guest does not say what it has written")
    return {path: _WHY.get(str(why), "the guest leaves it") for path, why in left.items()}


async def keep(channel: GuestChannel, target: str, paths: Sequence[str]) -> None:
    """Throw away what was there before. What the clone has at the paths is on its disk then. Raises GuestError."""
    await _run(channel, "keep", target, json.dumps(list(paths)).encode() + b"\n")


async def put_back(channel: GuestChannel, target: str) -> None:
    """Undo `put_into_guest`. Raises GuestError."""
    await _run(channel, "back", target, b"")


def _told(entry: Entry | None) -> list[Any] | None:
    return None if entry is None else [entry.executable, entry.digest, entry.target]


async def _run(channel: GuestChannel, word: str, target: str, stdin: bytes) -> dict[str, Any]:
    program = Path(into_guest.__file__).read_text()
    argv = ["python3", "-I", "-c", program, word, target, STATE, str(GUEST_UID)]
    done = await channel.run(argv, stdin=stdin, timeout_s=PUT_S)
    if done.code != 0:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise GuestError("files could not be put into the copy", said or None)
    try:
        answer = json.loads(done.stdout or b"{}")
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise GuestError("the guest does not say what it has written")
    return answer
