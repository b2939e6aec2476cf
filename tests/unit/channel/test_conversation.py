"""One stream as a value: frames in, chunks and a result out. The guest is played by the windows that guestd has."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm.channel.conduct import ANSWER_LIMIT
from vmm.channel.conversation import Conversation
from vmm.channel.errors import GuestError
from vmm.guest.guestd.wire import (
    CLOSE,
    CONTROL,
    CREDIT,
    DATA,
    EOF,
    MAX_MESSAGE,
    MAX_PAYLOAD,
    MORE,
    OPEN,
    RESULT,
    WINDOW,
    Assembly,
    Decoder,
    Frame,
    ReceiveWindow,
    SendWindow,
    credit_of,
    encode_message,
)

ONE = 7


def frames(data: bytes) -> list[Frame]:
    decoder = Decoder()
    found = decoder.feed(data)
    assert not decoder.skipped and not decoder._buffer
    return found


def result(value: object) -> Frame:
    return Frame(ONE, RESULT, 0, json.dumps(value).encode())


def credit(size: int) -> Frame:
    return Frame(ONE, CREDIT, 0, size.to_bytes(4, "big"))


def taken(conversation: Conversation) -> list[tuple[int, bytes]]:
    chunks = []
    while conversation.backlog:
        chunks.append(conversation.backlog.take())
    return chunks


def test_a_whole_conversation() -> None:
    one = Conversation(ONE)
    assert frames(one.open("exec", {"argv": ["x"]})) == [Frame(ONE, OPEN, 0, b'exec\n{"argv": ["x"]}')]
    assert frames(one.data(b"input")) == [Frame(ONE, DATA, 0, b"input")]
    assert frames(one.control(signal=2)) == [Frame(ONE, CONTROL, 0, b'{"signal": 2}')]
    assert frames(one.eof()) == [Frame(ONE, EOF)]
    for frame in (Frame(ONE, DATA, 1, b"out"), Frame(ONE, DATA, 2, b"err"), Frame(ONE, DATA, 2, b"or"), credit(5)):
        assert one.accept(frame) == b""
    assert taken(one) == [(1, b"out"), (2, b"error")]
    assert not one.ended
    assert one.accept(result({"ok": {"code": 3}})) == b""
    assert (one.ended, one.result, one.error) == (True, {"code": 3}, None)


def test_after_its_end_nothing_is_said() -> None:
    for ending in (
        lambda one: one.accept(result({"ok": {}})),
        lambda one: one.lose(GuestError("gone")),
        lambda one: one.close(),
    ):
        one = Conversation(ONE)
        ending(one)
        assert one.ended
        before = (one.result, one.error)
        said = (one.data(b"x"), one.eof(), one.control(signal=2), one.close(), one.consumed(WINDOW))
        assert said == (b"",) * 5
        assert one.accept(Frame(ONE, DATA, 1, b"late")) == b"" and not one.backlog
        one.lose(GuestError("gone, too"))
        assert (one.result, one.error) == before


def test_closing_tells_the_peer_once() -> None:
    one = Conversation(ONE)
    assert frames(one.close()) == [Frame(ONE, CLOSE)]
    assert one.error and one.error.brief == "closed by this side"


AGAINST_THE_RULES = [
    ([(EOF, 0, b"x")], "EOF of 1 bytes"),
    ([(EOF, 0, b""), (EOF, 0, b"")], "EOF of 0 bytes"),
    ([(EOF, 0, b""), (DATA, 1, b"x")], "DATA of 1 bytes"),
    ([(DATA, 1, b"")], "DATA of 0 bytes"),
    ([(DATA, 3, b"x")], "DATA of 1 bytes"),
    ([(DATA, 1, bytes(MAX_PAYLOAD))] * (WINDOW // MAX_PAYLOAD) + [(DATA, 1, b"x")], "more than it was allowed to"),
    ([(CREDIT, 0, b"\0\0\0\1")], "CREDIT for what it was not sent"),
    ([(CREDIT, 0, b"\0\0\0")], "CREDIT"),
    ([(RESULT, MORE, b"")], "part of a RESULT that is too short"),
    ([(RESULT, MORE, bytes(MAX_PAYLOAD))] * (ANSWER_LIMIT // MAX_PAYLOAD + 1), "too long"),
    ([(OPEN, 0, b"exec\n{}")], "a frame of kind 4"),
    ([(99, 0, b"")], "a frame of kind 99"),
]


@pytest.mark.parametrize(("sent", "said"), AGAINST_THE_RULES, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_against_the_rules_ends_it(sent: list[tuple[int, int, bytes]], said: str) -> None:
    one = Conversation(ONE)
    *lawful, last = [Frame(ONE, *frame) for frame in sent]
    for frame in lawful:
        assert one.accept(frame) == b"" and not one.ended
    assert frames(one.accept(last)) == [Frame(ONE, CLOSE)]
    assert one.error and said in f"{one.error.brief} {one.error.details}"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "cannot be read"),
        (b"[]", "cannot be read"),
        (b"[" * 60_000, "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b'{"ok": null}', "no error"),
        (b'{"error": {"brief": "no such user"}}', "no such user"),
    ],
)
def test_an_answer_that_is_none_is_an_error(answer: bytes, words: str) -> None:
    one = Conversation(ONE)
    one.accept(Frame(ONE, DATA, 1, b"before"))
    assert one.accept(Frame(ONE, RESULT, 0, answer)) == b""  # the peer has ended it already
    assert one.ended and one.error and words in one.error.brief
    assert taken(one) == [(1, b"before")]  # what came before can still be read


def test_a_request_that_is_too_long_is_refused() -> None:
    with pytest.raises(GuestError, match=r"^exec: request of \d+ bytes"):
        Conversation(ONE).open("exec", {"env": "x" * MAX_MESSAGE})


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(min_size=1, max_size=400)), max_size=60), st.data())
def test_of_what_comes_nothing_is_lost_or_out_of_order(chunks: list[tuple[int, bytes]], data: st.DataObject) -> None:
    one = Conversation(ONE)
    got: list[tuple[int, bytes]] = []
    for sub, payload in chunks:
        assert one.accept(Frame(ONE, DATA, sub, payload)) == b""
        while one.backlog and data.draw(st.booleans()):
            size = data.draw(st.integers(1, 500))
            piece = (one.backlog.first, one.backlog.peek(size))
            one.backlog.drop(len(piece[1]))
            one.consumed(len(piece[1]))
            got.append(piece)
    got += taken(one)
    for sub in range(3):
        assert b"".join(d for s, d in got if s == sub) == b"".join(d for s, d in chunks if s == sub)
    assert b"".join(d for _, d in got) == b"".join(d for _, d in chunks)  # few pieces: across sub-channels, too


class GuestEnd:
    """The answering end as guestd keeps it, with what came in and has not been consumed."""

    def __init__(self) -> None:
        self.sending, self.receiving = SendWindow(), ReceiveWindow()
        self.store = 0
        self.got = bytearray()

    def accept(self, frame: Frame) -> None:
        if frame.kind == DATA:
            self.receiving.arrive(len(frame.payload))  # raises when the host overruns us
            self.store += len(frame.payload)
            self.got += frame.payload
        elif frame.kind == CREDIT:
            self.sending.grant(credit_of(frame))

    def consume(self, size: int) -> list[Frame]:
        size = min(size, self.store)
        self.store -= size
        owed = self.receiving.consume(size, now=not self.store)
        return [credit(owed)] if owed else []


@given(
    st.integers(0, 3 * WINDOW),
    st.integers(0, 3 * WINDOW),
    st.lists(st.tuples(st.sampled_from("shctgT"), st.integers(1, MAX_PAYLOAD)), max_size=100),
)
def test_two_ends_never_overrun_and_never_starve(up: int, down: int, moves: list[tuple[str, int]]) -> None:
    """Whatever the order in which both ends send, are delivered to, and consume."""
    host, guest = Conversation(ONE), GuestEnd()
    to_guest: list[Frame] = []
    to_host: list[Frame] = []
    sent = {"up": 0, "down": 0}
    received = bytearray()

    def host_sends(size: int) -> None:
        size = min(size, host.room, up - sent["up"])
        if size:
            to_guest.extend(frames(host.data(bytes([sent["up"] % 251]) * size)))
            sent["up"] += size

    def guest_sends(size: int) -> None:
        size = min(size, guest.sending.room, down - sent["down"])
        if size:
            guest.sending.spend(size)
            to_host.append(Frame(ONE, DATA, 1, bytes([sent["down"] % 251]) * size))
            sent["down"] += size

    def host_consumes(size: int) -> None:
        if host.backlog:
            _, data = host.backlog.take(size)
            received.extend(data)
            to_guest.extend(frames(host.consumed(len(data))))

    def deliver() -> None:
        for frame in to_guest:
            guest.accept(frame)
        for frame in to_host:
            assert host.accept(frame) == b"", host.error
        to_guest.clear()
        to_host.clear()
        assert host.backlog.size <= WINDOW and guest.store <= WINDOW

    def step(move: str, size: int) -> None:
        if move == "h":
            host_sends(size)
        elif move == "g":
            guest_sends(size)
        elif move == "c":
            host_consumes(size)
        elif move == "t":
            to_host.extend(guest.consume(size))
        else:
            deliver()

    for move in moves:
        step(*move)
    for _ in range(64):  # from any state, going on in turns brings all of it over
        for move in "hgdctd":
            step(move, MAX_PAYLOAD)
    assert (len(guest.got), len(received), host.error) == (up, down, None)


@given(st.integers(0, 5 * MAX_PAYLOAD))
def test_a_message_in_frames_is_put_together_again(size: int) -> None:
    message = bytes([size % 251]) * size
    *parts, last = frames(encode_message(ONE, OPEN, message))
    assembly = Assembly()
    assert [assembly.add(part) for part in parts] == [None] * len(parts)
    assert assembly.held == sum(len(part.payload) for part in parts)
    assert assembly.add(last) == message
    assert assembly.held == 0


@pytest.mark.parametrize("sub", [0, MORE])
def test_a_message_above_the_limit_is_not_kept(sub: int) -> None:
    assembly = Assembly(100)
    assert assembly.add(Frame(ONE, OPEN, MORE, bytes(100))) is None
    with pytest.raises(ValueError, match="more than 100 bytes"):
        assembly.add(Frame(ONE, OPEN, sub, b"x"))
    assert assembly.held == 0


def test_credit_is_given_for_a_quarter_of_the_window_or_at_once() -> None:
    window = ReceiveWindow()
    window.arrive(WINDOW)
    assert window.consume(WINDOW // 4 - 1) == 0
    assert window.consume(1) == WINDOW // 4
    assert window.consume(10, now=True) == 10
    with pytest.raises(ValueError):
        window.arrive(WINDOW // 4 + 11)


def test_credit_never_widens_the_window() -> None:
    window: Any = SendWindow()
    window.grant(1 << 30)
    window.spend(WINDOW)
    assert window.room == 0
    window.grant(5)
    assert window.room == 5
