"""`${VAR}`: the grammar of Compose, its errors, and bounds on what it may grow to."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxfile.reading.interpolate import MAX_LENGTH, BadInterpolation, escape, interpolate

VALUES = {"SET": "value", "EMPTY": "", "DOLLAR": "$SET", "_x1": "under"}


def read(text: str) -> str:
    return interpolate(text, VALUES.get).text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("$SET", "value"),
        ("${SET}", "value"),
        ("a-$SET-b", "a-value-b"),
        ("$SET$SET", "valuevalue"),
        ("$_x1.", "under."),
        ("$$SET", "$SET"),
        ("$$$SET", "$value"),
        ("$${SET}", "${SET}"),
        ("${SET:-default}", "value"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY-default}", ""),
        ("${GONE:-default}", "default"),
        ("${GONE-default}", "default"),
        ("${GONE:-}", ""),
        ("${GONE:-a:b}", "a:b"),
        ("${GONE:-$SET}", "value"),
        ("${GONE:-${ALSO_GONE:-${SET}}}", "value"),
        ("${GONE:-a$$b}", "a$b"),
        ("${SET:+instead}", "instead"),
        ("${EMPTY:+instead}", ""),
        ("${EMPTY+instead}", "instead"),
        ("${GONE+instead}", ""),
        ("${SET:?must be set}", "value"),
        ("${EMPTY?must be set}", ""),
        ("${SET:-${UNUSED:?never asked}}", "value"),
        ("$GONE", ""),
        ("${DOLLAR}", "$SET"),
        ("{}[]", "{}[]"),
        ("}", "}"),
    ],
)
def test_text_becomes(text: str, expected: str) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$", "no variable's name follows"),
        ("costs 5$", "no variable's name follows"),
        ("$5", "no variable's name follows"),
        ("${}", "no variable's name follows"),
        ("${1A}", "no variable's name follows"),
        ("$ SET", "no variable's name follows"),
        ("${SET", "has no closing brace"),
        ("${SET:-x", "is never closed"),
        ("${SET x}", "is followed by"),
        ("${SET:x}", "is followed by"),
        ("${SET!}", "is followed by"),
        ("${GONE:?}", "the variable GONE is not set"),
        ("${EMPTY:?say it}", "the variable EMPTY is not set: say it"),
        ("${GONE?$SET is missing}", "value is missing"),
        ("${GONE:-" * 30 + "}" * 30, "nested deeper"),
    ],
)
def test_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadInterpolation, match=re.escape(message)):
        read(text)


def test_the_names_that_were_asked_for_and_those_that_nobody_set() -> None:
    found = interpolate("$SET ${GONE} ${ALSO:-x} ${SET:-$UNUSED} $GONE", VALUES.get)
    assert found.names == ("SET", "GONE", "ALSO")
    assert found.unset == ("GONE",)


def test_a_value_cannot_grow_without_bound() -> None:
    with pytest.raises(BadInterpolation, match="longer than"):
        interpolate("$A" * 1000, lambda name: "x" * 1000)
    assert len(interpolate("$A", lambda name: "x" * MAX_LENGTH).text) == MAX_LENGTH


@given(st.text())
def test_escaped_text_stays_itself(text: str) -> None:
    assert read(escape(text)) == text


@given(st.text(alphabet="$${}:-?+AB a", max_size=60))
def test_any_text_gives_text_or_a_reason(text: str) -> None:
    try:
        assert isinstance(read(text), str)
    except BadInterpolation as error:
        assert error.message
