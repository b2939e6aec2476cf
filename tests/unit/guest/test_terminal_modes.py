"""What a program has switched on in its terminal, and what of its output another terminal begins with."""

from __future__ import annotations

import pytest

from vmm.guest.guestd.history import KEPT, REPLAYED, History
from vmm.guest.guestd.modes import DEEPEST, Modes


def modes_of(*pieces: bytes) -> Modes:
    modes = Modes()
    for piece in pieces:
        modes.saw(piece)
    return modes


@pytest.mark.parametrize(
    ("seen", "on", "off"),
    [
        (b"text", b"", b""),
        (b"\x1b[?1049h\x1b[?1000;1006h", b"\x1b[?1049h\x1b[?1000h\x1b[?1006h", b"\x1b[?1000l\x1b[?1006l\x1b[?1049l"),
        (b"\x1b[?25l", b"\x1b[?25l", b"\x1b[?25h"),
        (b"\x1b[?2004h\x1b[?2004l", b"", b""),
        (b"\x1b[?2026h", b"", b"\x1b[?2026l"),  # a frame that is half painted is nobody else's
        (b"\x1b[>1u\x1b[>5u", b"\x1b[>1u\x1b[>5u", b"\x1b[<2u"),
        (b"\x1b[>1u\x1b[>5u\x1b[<u", b"\x1b[>1u", b"\x1b[<1u"),
        (b"\x1b[>1u\x1b[<9u", b"", b""),
        (b"\x1b[=5;1u", b"\x1b[>5u", b"\x1b[<1u"),
        (b"\x1b[>1u\x1b[?1049h\x1b[>3u", b"\x1b[?1049h\x1b[>3u", b"\x1b[<1u\x1b[?1049l\x1b[<1u"),
        (b"\x1b[>4;2m\x1b=", b"\x1b[>4;2m\x1b=", b"\x1b[>4m\x1b>"),
        (b"\x1b[>4;2m\x1b[>4m\x1b=\x1b>", b"", b""),
        (b"\x1b[2;20r", b"", b"\x1b7\x1b[r\x1b8"),
        (b"\x1b[2;20r\x1b[r", b"", b""),
        (b"\x1b[?1049h\x1b[>1u\x1bc", b"", b""),
    ],
)
def test_on_and_off(seen: bytes, on: bytes, off: bytes) -> None:
    assert modes_of(seen).on() == on
    assert sorted_words(modes_of(seen).off()) == sorted_words(off)
    single = modes_of(*(seen[at : at + 1] for at in range(len(seen))))
    assert single.on() == on
    single.off()
    assert single.off() == single.on() == b""


def sorted_words(data: bytes) -> list[bytes]:
    return sorted(data.split(b"\x1b"))


def test_what_is_switched_on_there_is_seen_here() -> None:
    modes = modes_of(b"\x1b[?1049h\x1b[>3u\x1b[?1002;2004h\x1b[?25l\x1b=\x1b[>4;1m")
    assert modes_of(modes.on()).on() == modes.on()


def test_a_keyboard_that_is_pushed_for_ever_is_held_in_bounds() -> None:
    modes = modes_of(b"\x1b[>1u" * 100_000, b"\x1b[>99999999999999u", b"\x1b[<99999999999999u")
    assert modes.off() == b""
    modes = modes_of(b"\x1b[>1u" * 100_000)
    assert modes.off() == b"\x1b[<%du" % DEEPEST


def history_of(*pieces: bytes) -> History:
    history = History()
    for piece in pieces:
        history.append(piece)
    return history


def test_the_history_is_bounded_and_knows_its_places() -> None:
    history = history_of(*(b"%07d\n" % number for number in range(100_000)))
    assert history.end == 800_000 and KEPT <= history.end - history.start <= KEPT * 5 // 4
    assert history.read(history.end - 8, 100) == b"0099999\n"
    assert history.read(history.end, 100) == b""
    replay = history.replay()
    assert len(replay) <= REPLAYED and replay.endswith(b"0099999\n") and len(replay) % 8 == 0


@pytest.mark.parametrize(
    ("printed", "replayed"),
    [
        (b"$ ls\r\na b\r\n$ ", b"$ ls\r\na b\r\n$ "),
        (b"old\x1b[2Jnew", b"\x1b[2Jnew"),
        (b"old\x1b[2J\x1b[3J\x1b[Hnew", b"\x1b[3J\x1b[Hnew"),
        (b"old\x1b[?1049hscreen\x1b[?1049lafter", b"after"),
        (b"old\x1b[?1;1049lafter", b"after"),
        (b"a\x1b[6n\x1b[c\x1b[>c\x1b[>q\x1b[?u\x1b[5n\x1b[?2026$p\x1b[14t\x05\x1bZb", b"ab"),
        (b"a\x1b]0;title\x07\x1b]11;?\x1b\\\x1bP+q544e\x1b\\\x1b_Gi=1\x1b\\b", b"ab"),
        (b"a\x1b[?2004h\x1b[>1ub\x1b[31mred", b"ab\x1b[31mred"),
        (b"cut\x1b[6", b"cut\x1b[6"),
    ],
)
def test_what_another_terminal_begins_with(printed: bytes, replayed: bytes) -> None:
    assert history_of(printed).replay() == replayed
