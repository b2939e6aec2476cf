"""A push as git's own receive-pack reads it, slowly, and as the gateway judges it: for tests and fuzzing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.gateway.body_checks import MOST_HELD, HeldBody
from engine.gateway.pushes import Pushes

CAPABILITIES = b" report-status-v2 side-band-64k atomic object-format=sha1 agent=git/2.39.5"
AGENT = Pushes(("refs/heads/agent/*",))
Command = tuple[bytes, bytes, bytes]


def line(text: bytes) -> bytes:
    return b"%04x" % (len(text) + 4) + text


def push(
    *commands: Command, capabilities: bytes = CAPABILITIES, before: bytes = b"", pack: bytes = b"PACKxxxx"
) -> bytes:
    words = [b" ".join(command) for command in commands]
    if words:
        words[0] += b"\0" + capabilities
    return before + b"".join(map(line, words)) + b"0000" + pack


def judge(
    body: bytes, *checks: Pushes, pieces: Sequence[int] = (), headers: Sequence[tuple[bytes, bytes]] = ()
) -> bytes:
    """What would go upstream: everything, in the end, or a refusal. Fed in pieces of these sizes, then at once."""
    held = HeldBody(checks or (AGENT,), headers)
    onward, at = bytearray(), 0
    for size in (*pieces, len(body)):
        piece, at = body[at : at + size], at + size
        if held.open:
            onward += piece
        else:
            held.feed(piece)
            assert len(held.data) <= MOST_HELD + len(piece)
            if held.open:
                onward += held.data
    if not held.open:
        held.end()
        assert held.open
        onward += held.data
    return bytes(onward)


def git_reads(body: bytes) -> list[Command] | None:
    """The commands that git would carry out; None where it gives up, or finds a certificate."""
    found: list[Command] = []
    at = 0
    while True:
        digits = body[at : at + 4]
        if not re.fullmatch(rb"[0-9a-fA-F]{4}", digits):
            return None
        length = int(digits, 16)
        if length in (0, 1, 2):
            return found
        if length == 3 or length > 65520 or at + length > len(body):
            return None
        text = body[at + 4 : at + length]
        at += length
        text = text[:-1] if text.endswith(b"\n") else text
        if text.startswith(b"shallow ") and len(text) > 8:
            continue
        text = text.split(b"\0")[0]
        words = re.fullmatch(rb"(?s)([0-9a-fA-F]{40}|[0-9a-fA-F]{64}) ([0-9a-fA-F]{40}|[0-9a-fA-F]{64}) (.*)", text)
        if words is None:
            return None
        found.append((words[1].lower(), words[2].lower(), words[3]))


def slowly_allowed(command: Command, check: Pushes) -> bool:
    old, new, ref = command
    change = "delete" if set(new) == {48} else "create" if set(old) == {48} else "update"
    return change in check.changes and any(slow_match(pattern.encode(), ref) for pattern in check.refs)


def slow_match(pattern: bytes, ref: bytes) -> bool:
    """`*` alone: the patterns of these tests have nothing else."""
    if not pattern:
        return not ref
    if pattern[:1] == b"*":
        return slow_match(pattern[1:], ref) or (ref[:1] not in (b"", b"/") and slow_match(pattern, ref[1:]))
    return pattern[:1] == ref[:1] and slow_match(pattern[1:], ref[1:])
