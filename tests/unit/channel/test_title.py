"""A title of ours beside those of a program: between its sequences, and its own again afterwards."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm.channel.title import LONGEST, Title

OURS = "shop asks for api.example.com"
SHOWN = b"\x1b[22;2t\x1b]2;" + OURS.encode() + b"\x07"
UNFINISHED = [
    b"\x1b",
    b"a\x1b[3",
    b"\x1b[?25",
    b"\x1b]0;half",
    b"\x1b]2;half\x1b",
    b"\x1bP+q",
    b"\x1b(",
    b"a\xe2\x94",
    b"\xf0\x9f",
]
ENDS = [b"[m", b"1m", b"h", b" a title\x07", b"\\", b"544e\x1b\\", b"B", b"\x80", b"\x98\x80"]


def test_it_is_shown_once_and_taken_back() -> None:
    title = Title()
    assert title.show("") == b""
    assert title.show(OURS) == SHOWN
    assert title.show(OURS) == b""
    assert title.show("") == b"\x1b[23;2t"
    assert title.show("") == title.end() == b""


def test_the_programs_own_title_comes_back() -> None:
    title = Title()
    title.saw(b"\x1b]0;first\x07\x1b]2;sec")
    title.saw(b"ond\x1b\\text")
    assert title.show(OURS) == SHOWN
    title.saw(b"\x1b]2;third\x07")
    assert title.show(OURS) == SHOWN.removeprefix(b"\x1b[22;2t"), "the program has written over it"
    assert title.show(OURS) == b""
    assert title.end() == b"\x1b[23;2t\x1b]2;third\x07"


@pytest.mark.parametrize(("half", "rest"), list(zip(UNFINISHED, ENDS, strict=True)))
def test_nothing_is_written_within_a_sequence_or_a_character(half: bytes, rest: bytes) -> None:
    title = Title()
    title.saw(half)
    assert title.show(OURS) == b""
    title.saw(rest)
    assert title.show(OURS) == SHOWN


@pytest.mark.parametrize("end", [b"\x07", b"\x1b\\"])
def test_a_string_longer_than_anybody_keeps(end: bytes) -> None:
    title = Title()
    title.saw(b"\x1b]52;c;")
    for _ in range(5):
        title.saw(b"A" * LONGEST)
        assert title.show(OURS) == b""
    for byte in end:
        title.saw(bytes([byte]))
    assert title.show(OURS) == SHOWN


def test_what_is_in_a_string_is_no_sequence() -> None:
    """As in what tmux passes through: the string goes on after it."""
    title = Title()
    title.saw(b"\x1bPtmux;\x1b\x1b]2;inner\x07")
    assert title.show(OURS) == b""
    title.saw(b"\x1b\\")
    assert title.show(OURS) == SHOWN
    assert title.end() == b"\x1b[23;2t"


def test_strings_without_an_end_cost_no_more_than_others() -> None:
    title, start = Title(), time.process_time()
    title.saw(b"\x1bP\x1b_" * 4096)
    assert time.process_time() - start < 1.0, "the time is that of its square"


def test_what_is_no_sequence_holds_nothing_up() -> None:
    title = Title()
    title.saw(b"\x1b\x01 text \xff\xfe")
    assert title.show(OURS) == SHOWN


def test_the_words_are_no_sequences() -> None:
    assert Title().show("a\x1b]2;b\x07c\nd\u202e" + "x" * 500) == b"\x1b[22;2t\x1b]2;a]2;bcd" + b"x" * 113 + b"\x07"


TEXTS = [b"text", "\u2500\u2502 \U0001f600".encode(), b"\x1b[1;31m", b"\x1b]0;mine\x07", b"\x1b]8;;http://a\x1b\\"]
TEXTS += [b"\x1b7", b"\x1b(B", b"\x1bP+q544e\x1b\\", b"\x1b[>4;1m", b"\r\n", b"\x1b]52;c;" + b"QUJD" * 1000 + b"\x07"]


@given(st.lists(st.sampled_from(TEXTS), max_size=12), st.data())
def test_wherever_it_is_cut_the_programs_bytes_stay_whole(words: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(words)
    ends = [0]
    for word in words:
        ends += [ends[-1] + size for size in _whole(word)]
    title, position = Title(), 0
    while position < len(stream):
        size = data.draw(st.integers(1, len(stream) - position))
        title.saw(stream[position : position + size])
        position += size
        if title.show(f"{OURS} {position}"):
            assert position in ends


def _whole(word: bytes) -> list[int]:
    """Where a word may be interrupted."""
    if b"\x1b" in word:
        return [len(word)]
    return [found.end() for found in re.finditer(rb"[\x00-\x7f]|[\xc2-\xf4][\x80-\xbf]+", word)]
