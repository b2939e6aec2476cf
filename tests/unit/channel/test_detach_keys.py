"""The keys that detach: how they are written, and in what they are found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm.channel.detach_keys import HELD, TYPED, KeyWatch, parse_keys

KEYS = b"\x1c\x04"


@pytest.mark.parametrize(
    ("text", "keys", "words"),
    [
        ("ctrl-\\,ctrl-d", KEYS, "ctrl-\\ ctrl-d"),
        ("ctrl-p,ctrl-q", b"\x10\x11", "ctrl-p ctrl-q"),
        ("CTRL-A,d", b"\x01d", "CTRL-A d"),
        ("ctrl-@,ctrl-[,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1d\x1e\x1f", "ctrl-@ ctrl-[ ctrl-] ctrl-^ ctrl-_"),
        ("none", b"", "none"),
    ],
)
def test_as_docker_writes_them(text: str, keys: bytes, words: str) -> None:
    assert parse_keys(text) == (words, keys)


@pytest.mark.parametrize(
    "text", ["", "ctrl-", "ctrl-ab", "ctrl-1", "ctrl-p ctrl-q", "ctrl-p,", "a,b", "é", "ctrl-p" + ",x" * 8]
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="key"):
        parse_keys(text)


def fed(pieces: list[bytes], keys: bytes = KEYS) -> tuple[bytes, bool]:
    watch, passed = KeyWatch(keys), b""
    for piece in pieces:
        through, found = watch.feed(piece)
        passed += through
        if found:
            return passed, True
    return passed, False


@pytest.mark.parametrize(
    ("pieces", "passed", "found"),
    [
        ([b"\x1c\x04"], b"", True),
        ([b"\x1c", b"\x04"], b"", True),
        ([b"ab\x1c", b"\x04more"], b"ab", True),
        ([b"\x1c", b"x"], b"\x1cx", False),
        ([b"\x1c", b"\x1c"], b"\x1c", False),  # the second may be the beginning
        ([b"\x1c", b"\x1c", b"\x04"], b"\x1c", True),
        ([b"\x04\x1c"], b"\x04", False),
        ([b"\x1b[92;5u\x1b[100;5u"], b"", True),
        ([b"\x1b[92;5:1u", b"\x1b[92;5:3u", b"\x1b[57442;5:3u", b"\x1b[100;69:1u"], b"", True),
        ([b"\x1b[92;6u\x1b[100;5u"], b"\x1b[92;6u\x1b[100;5u", False),  # with shift it is another key
        ([b"\x1b[27;5;92~", b"\x1b[27;5;100~"], b"", True),
        ([b"\x1b[200~\x1c\x04\x1b[201~"], b"\x1b[200~\x1c\x04\x1b[201~", False),
        ([b"\x1b[200~", b"\x1c", b"\x04", b"\x1b[201~", b"\x1c\x04"], b"\x1b[200~\x1c\x04\x1b[201~", True),
        ([b"\x1b[2", b"00~", b"\x1c\x04", b"\x1b[20", b"1~x"], b"\x1b[200~\x1c\x04\x1b[201~x", False),
        ([b"x" * TYPED + KEYS], b"x" * TYPED + KEYS, False),  # so much at once is pasted
    ],
)
def test_found_or_passed_on(pieces: list[bytes], passed: bytes, found: bool) -> None:
    assert fed(pieces) == (passed, found)


def test_keys_that_repeat() -> None:
    keys = b"\x01\x01\x02"
    assert fed([b"\x01", b"\x01", b"\x01", b"\x02"], keys) == (b"\x01", True)


def test_none_are_never_found() -> None:
    assert fed([KEYS, b""], b"") == (KEYS, False)


@given(
    st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([b"\x1c", b"\x1b[92;5u", b"\x1b[200~", b"\x1b[201~"])))
)
def test_nothing_is_lost_and_little_is_held(pieces: list[bytes]) -> None:
    watch, passed, sent = KeyWatch(KEYS), b"", b""
    for piece in pieces:
        through, found = watch.feed(piece)
        passed, sent = passed + through, sent + piece
        if found:
            return
        assert sent.startswith(passed) and len(sent) - len(passed) <= HELD
        assert len(through) <= len(piece) + HELD
    through, found = watch.feed(b"z" * 200)
    assert found or passed + through == sent + b"z" * 200
