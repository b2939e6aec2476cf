from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from engine.gateway.forms import forms_of
from engine.gateway.redaction import Redactor

VALUE = b"sk-0123456789abcdef"
STARS = b"*" * len(VALUE)


def pieces_of(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


def test_a_value_becomes_as_many_stars() -> None:
    redactor = Redactor([VALUE])
    assert redactor.feed(b"a " + VALUE + b" b") + redactor.finish() == b"a " + STARS + b" b"
    assert redactor.found and redactor.clean(VALUE) == STARS


def test_an_end_that_is_no_value_is_not_held_back() -> None:
    redactor = Redactor([VALUE])
    for event in (b"data: s\n\n", b"data: sk", b"data: sk-0123"):
        assert redactor.feed(event) == event
    assert not redactor.found


def test_a_value_in_two_pieces() -> None:
    for cut in range(1, len(VALUE)):
        redactor = Redactor([VALUE])
        first, second = redactor.feed(b"x" + VALUE[:cut]), redactor.feed(VALUE[cut:] + b"y")
        whole = first + second + redactor.finish()
        assert len(whole) == len(VALUE) + 2 and whole.endswith(b"*y") and redactor.found
        assert first == b"x" + (VALUE[:cut] if cut < 8 else b"")


def test_values_that_are_too_short_are_not_looked_for() -> None:
    redactor = Redactor([b"abc", b""])
    assert not redactor and redactor.feed(b"abc") == b"abc"


@given(
    st.lists(st.sampled_from([b"ab", b"abababac", b"abababab", b"a", b"x", b"aabaabaabaac"])).map(b"".join),
    st.lists(st.integers(0, 9)),
)
def test_whatever_the_pieces_no_value_passes_and_nothing_else_changes(data: bytes, sizes: list[int]) -> None:
    values = [b"abababac", b"aabaabaabaac"]
    redactor = Redactor(values)
    whole = b"".join(map(redactor.feed, pieces_of(data, sizes))) + redactor.finish()
    assert len(whole) == len(data)
    assert not any(value in whole for value in values)
    assert all(ours in (theirs, ord("*")) for ours, theirs in zip(whole, data, strict=True))
    if not any(value in data for value in values):
        assert whole == data and not redactor.found


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=60), st.binary(max_size=7))
def test_what_encodings_make_of_a_value_is_overwritten(value: str, before: bytes) -> None:
    raw = value.encode()
    encoded = [
        raw,
        quote(value, safe="").encode(),
        json.dumps({"error": value}).encode(),
        html.escape(value).encode(),
        raw.hex().encode(),
        base64.b64encode(before + raw + b"rest"),
        base64.urlsafe_b64encode(before + raw),
    ]
    for text in encoded:
        redactor = Redactor(forms_of(raw))
        passed = b"".join(redactor.feed(text[i : i + 1]) for i in range(len(text))) + redactor.finish()
        assert redactor.found and len(passed) == len(text)
        assert Redactor(forms_of(raw)).clean(text).count(b"*") >= 8


def test_a_slash_may_stay_as_it_is_in_a_url() -> None:
    redactor = Redactor(forms_of(b"ab/cd+ef=gh12"))
    for text in (b"ab/cd%2Bef%3Dgh12", b"ab/cd%2bef%3dgh12"):
        assert redactor.clean(text) == b"*" * len(text)
