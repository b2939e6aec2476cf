"""When an attached command stops waiting, and how it leaves the terminal."""

from __future__ import annotations

import os
import pty
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm.channel.patience import SAME_S, SECOND_S, SILENCE_S, Patience
from vmm.channel.screen import Screen
from vmm.guest.guestd.modes import LONGEST

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


@pytest.mark.parametrize(
    ("signals", "seconds"),
    [
        ([(INT, 0.0)], [False]),
        ([(INT, 0.0), (INT, 1.0)], [False, True]),
        ([(INT, 0.0), (TERM, 1.0)], [False, True]),
        ([(TERM, 0.0), (TERM, SECOND_S + 0.1)], [False, False]),
        ([(TERM, 0.0), (TERM, SECOND_S + 0.1), (TERM, SECOND_S + 1)], [False, False, True]),
        ([(TERM, 0.0), (TERM, SAME_S / 2)], [False, False]),  # as `timeout` does it
        ([(INT, number * 0.03) for number in range(6)], [False, False, False, False, True, True]),  # a key held down
        ([(HUP, 0.0), (HUP, 1.0), (TERM, 1.5)], [False, False, False]),
    ],
)
def test_who_insists(signals: list[tuple[int, float]], seconds: list[bool]) -> None:
    patience = Patience()
    assert [patience.is_second(number, 100 + at) for number, at in signals] == seconds


def test_a_guest_has_ten_seconds_for_a_sign_of_life() -> None:
    patience = Patience()
    assert patience.left(0) is None
    assert patience.begin(TERM, 100) and not patience.begin(INT, 105)
    assert patience.left(104) == SILENCE_S - 4 and patience.number == TERM
    assert patience.left(100 + SILENCE_S) == 0
    patience.end()
    assert patience.left(1e9) is None and patience.begin(INT, 200)


def restored(*chunks: bytes) -> bytes:
    """What is written to a terminal after `chunks` went there."""
    screen = Screen()
    for chunk in chunks:
        screen.saw(chunk)
    far, near = pty.openpty()
    try:
        screen.restore(near)
        os.set_blocking(far, False)
        try:
            return os.read(far, 4096)
        except BlockingIOError:
            return b""
    finally:
        os.close(near)
        os.close(far)


END = b"\x1b[0m\r\r\n"  # the terminal adds one


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"plain text \x1b[31mred\x1b[0m"], b""),
        ([b"\x1b[?1049h\x1b[?2004h"], b"\x1b[?1049l\x1b[?2004l" + END),
        ([b"\x1b[?1049h", b"\x1b[?1049l"], b""),
        ([b"\x1b[?1000;1006h"], b"\x1b[?1000l\x1b[?1006l" + END),
        ([b"\x1b[?25l"], b"\x1b[?25h" + END),
        ([b"\x1b[?25l\x1b[?25h"], b""),
        ([b"\x1b[?7l\x1b[?12h"], b""),  # of no harm
        ([b"\x1b[?1003h\x1bc"], b""),  # it reset everything itself
        ([b"\x1b[?10", b"49h"], b"\x1b[?1049l" + END),
        ([b"\x1b", b"[", b"?", b"2004", b"h"], b"\x1b[?2004l" + END),
    ],
)
def test_modes_that_are_left_on_are_switched_off(chunks: list[bytes], expected: bytes) -> None:
    assert restored(*chunks) == expected


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"\x1b[?", b"1049h", b"\x1b", b"9" * 60]))))
def test_any_output_is_read_with_little_held(chunks: list[bytes]) -> None:
    screen = Screen()
    for chunk in chunks:
        screen.saw(chunk)
        assert len(screen._rest) <= LONGEST


def test_what_is_no_terminal_gets_nothing() -> None:
    screen = Screen()
    screen.saw(b"\x1b[?1049h")
    reader, writer = os.pipe()
    screen.restore(writer)
    os.close(writer)
    assert os.read(reader, 100) == b""
    os.close(reader)
