"""What a guest says on the wire to a conversation of the host.

An input is a list of steps, so that a mutation gets past the sums of headers: frames, bytes as they are, and what the
host does meanwhile. The host is watched by a second, slow and obvious reader of the wire and of its rules.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from vmm.channel.conduct import ANSWER_LIMIT
from vmm.channel.conversation import Conversation
from vmm.guest.guestd.wire import (
    CLOSE,
    CREDIT,
    DATA,
    EOF,
    HEADER_SIZE,
    HELLO_OK,
    MAGIC,
    MAX_PAYLOAD,
    MORE,
    RESULT,
    WINDOW,
    Decoder,
    Frame,
    encode_frame,
)

ONE = 7  # the stream
NONCE = b"nonce-of-16-byte"
MOST_STEPS = 48
RAW, TAKE, SEND, END, BROKEN, FULL = 0, 11, 12, 13, 14, 15  # kinds of steps; those between are kinds of frames


class Act(NamedTuple):
    """What the host does between two frames: it takes what has come, sends `size` bytes, or ends the conversation."""

    kind: int
    size: int = 0


def steps(data: bytes) -> list[bytes | Act]:
    """A step: its kind and some flags, a length, a payload. With 0x40 the payload comes 256 times."""
    found: list[bytes | Act] = []
    while len(data) > 1 and len(found) < MOST_STEPS:
        first, size, data = data[0], data[1], data[2:]
        kind, sub, stream = first & 15, first >> 4 & 3, 0 if first & 0x80 else ONE
        if kind in (TAKE, SEND, END):
            found.append(Act(kind, size * 1000))
            continue
        payload, data = data[:size], data[size:]
        if first & 0x40:
            payload = (payload * 256)[:MAX_PAYLOAD]
        if kind == FULL:
            kind, payload = (RESULT, DATA)[sub == 2], (payload or b"x").ljust(MAX_PAYLOAD, b" ")
        frame = encode_frame(stream, RESULT if kind == BROKEN else kind, sub, payload)
        if kind == BROKEN:
            frame = frame[:17] + bytes([frame[17] ^ 1]) + frame[18:]
        found.append(payload if kind == RAW else frame)
    return found


def slow_frames(wire: bytes, nonce: bytes = b"") -> list[tuple[int, Frame]]:
    """All frames, each with where it ends, found byte by byte."""
    found, at, deaf = [], 0, bool(nonce)
    while at + HEADER_SIZE <= len(wire):
        head = wire[at : at + HEADER_SIZE]
        size, stream = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
        is_head = (
            head[:4] == MAGIC and size <= MAX_PAYLOAD and zlib.crc32(head[:14]) == int.from_bytes(head[14:], "big")
        )
        deaf = deaf and not (is_head and head[12] == HELLO_OK and wire.startswith(nonce, at + HEADER_SIZE))
        if not is_head or deaf:
            at += 1
            continue
        end = at + HEADER_SIZE + size
        if end > len(wire):
            break
        found.append((end, Frame(stream, head[12], head[13], wire[at + HEADER_SIZE : end])))
        at = end
    return found


def cut(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


class Rules:
    """What a guest may say to this host, by what the two have sent each other."""

    def __init__(self) -> None:
        self.sent = self.credited = self.host_sent = self.acknowledged = 0
        self.said_eof = False
        self.answer = b""

    def allow(self, frame: Frame) -> bool:
        size = len(frame.payload)
        if frame.kind == DATA:
            self.sent += size
            return size > 0 and frame.sub <= 2 and not self.said_eof and self.sent - self.credited <= WINDOW
        if frame.kind == CREDIT:
            granted = int.from_bytes(frame.payload, "big") if size == 4 else 0
            self.acknowledged += granted
            return granted > 0 and self.acknowledged <= self.host_sent
        if frame.kind == EOF:
            was, self.said_eof = self.said_eof, True
            return size == 0 and not was
        if frame.kind == RESULT:
            self.answer += frame.payload
            return len(self.answer) <= ANSWER_LIMIT and (frame.sub != MORE or size == MAX_PAYLOAD)
        return False


def said(answer: bytes) -> dict[str, Any] | None:
    """The result in a whole answer; None for a refusal and for nonsense."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    result = value.get("ok") if isinstance(value, dict) else None
    return result if isinstance(result, dict) else None


class Host:
    """One conversation, and what its owner has got of it."""

    def __init__(self) -> None:
        self.conversation = Conversation(ONE)
        self.rules = Rules()
        self.got: dict[int, bytes] = {0: b"", 1: b"", 2: b""}
        self.came: dict[int, bytes] = {0: b"", 1: b"", 2: b""}
        self.told: list[Frame] = []  # to the guest

    def hear(self, frame: Frame) -> None:
        one = self.conversation
        if one.ended or frame.stream != ONE:
            return
        lawful = self.rules.allow(frame)
        self.tell(one.accept(frame))
        if not lawful:
            assert one.error and self.told[-1].kind == CLOSE, f"it takes {frame.kind} of {len(frame.payload)} bytes"
        elif frame.kind == RESULT and frame.sub != MORE:
            expected = said(self.rules.answer)
            assert one.result == expected and (one.error is None) is (expected is not None)
        else:
            assert not one.ended, f"it refuses {frame.kind} of {len(frame.payload)} bytes: {one.error}"
        if lawful and frame.kind == DATA:
            self.came[frame.sub] += frame.payload
        waiting = sum(map(len, self.came.values())) - sum(map(len, self.got.values()))
        assert one.backlog.size == waiting <= WINDOW and one.backlog.pieces < 300, "it holds more than a window"
        assert one._conduct.held <= ANSWER_LIMIT and 0 <= one.room <= MAX_PAYLOAD

    def act(self, act: Act) -> None:
        one = self.conversation
        if act.kind == TAKE:
            while one.backlog:
                sub, data = one.backlog.take()
                self.got[sub] += data
                self.tell(one.consumed(len(data)))
                owed = sum(map(len, self.got.values())) - self.rules.credited
                assert one.ended or owed < WINDOW // 4, "a guest that waits for credit gets none"
        elif act.kind == SEND and not one.ended:
            size = min(act.size, one.room)
            self.rules.host_sent += size
            self.tell(one.data(b"x" * size))
        elif act.kind == END:
            self.tell(one.close())

    def tell(self, wire: bytes) -> None:
        for _, frame in slow_frames(wire):
            assert frame.stream == ONE and not any(told.kind == CLOSE for told in self.told), "it speaks after its end"
            self.told.append(frame)
            if frame.kind == CREDIT:
                self.rules.credited += int.from_bytes(frame.payload, "big")

    def seen(self) -> tuple[object, ...]:
        one = self.conversation
        return one.result, one.error and (one.error.brief, one.error.details), self.got, self.came, self.told


def frames(data: bytes) -> None:
    """The same frames in any pieces, which are those of the slow reader, and each is judged by the rules."""
    plan = steps(data[1:])
    greeted = data[:1] == b"\1"
    wire = b"".join(step for step in plan if isinstance(step, bytes))
    nonce = NONCE if greeted else b""
    expected = [frame for _, frame in slow_frames(wire, nonce)]
    seen, skipped = [], set()
    for size in (len(wire) or 1, 60_001, 7 if len(wire) < 20_000 else 1009, 1 if len(wire) < 2000 else 17_000):
        host, decoder, found = Host(), Decoder(), list[Frame]()
        if nonce:
            decoder.expect(nonce)
        for step in plan:
            if isinstance(step, Act):
                host.act(step)
                continue
            for piece in cut(step, size):
                heard = decoder.feed(piece)
                assert len(decoder._buffer) < HEADER_SIZE + MAX_PAYLOAD, "the decoder holds more than a frame"
                found += heard
                for frame in heard:
                    host.hear(frame)
        host.act(Act(TAKE))
        assert found == expected, "other frames"
        skipped.add(decoder.skipped > 0)
        seen.append(host.seen())
    assert len(skipped) == 1 and all(each == seen[0] for each in seen), "pieces change it"


GIVEN = b'{"ok": {"code": 0}}'
FRAME_SEEDS = (
    bytes([0, DATA | 0x10, 3]) + b"out" + bytes([TAKE, 0, EOF, 0, RESULT, len(GIVEN)]) + GIVEN,
    bytes([0, SEND, 5, CREDIT, 4]) + (5000).to_bytes(4, "big") + bytes([CREDIT, 4, 0, 0, 0, 1, RAW, 2]) + b"xx",
    bytes([0, *[FULL | 0x20, 1, 120] * 4, TAKE, 0, *[FULL | 0x20, 1, 120] * 5]),
    bytes([0, *[FULL | 0x10, 1, 32] * 15, RESULT, len(GIVEN)]) + GIVEN,
    bytes([0, *[FULL | 0x10, 1, 32] * 18, END, 0]),
    bytes([0, *[FULL | 0x20, 1, 97] * 3, TAKE, 1, DATA | 0x10, 1, 98, TAKE, 0, RESULT, len(GIVEN)]) + GIVEN,
    bytes([1, RAW, 9]) + NONCE[:9] + bytes([HELLO_OK | 0x80, 18]) + NONCE + b"{}" + bytes([BROKEN, 1, 97, DATA, 1, 98]),
    bytes([0, DATA | 0x50, 4]) + b"abcd" + bytes([DATA | 0x60, 4]) + b"efgh" + bytes([RESULT, 2]) + b"[]",
    bytes([0, RAW, 22]) + MAGIC + bytes(14) + MAGIC + bytes([DATA, 1, 97, CLOSE, 0]),
)
FRAME_WORDS = (
    MAGIC,
    NONCE,
    GIVEN,
    b'{"error": {"brief": "no"}}',
    bytes([TAKE, 0]),
    bytes([SEND, 9]),
    b"\x0f\1x",
    b"\x2f\1x",
)
