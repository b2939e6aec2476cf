"""JSON with comments."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.starter.jsonc import read_jsonc
from sandboxfile.positions import Position


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"a": 1} // end', {"a": 1}),
        ('// begin\n{"a": /* in */ [1, 2,],}', {"a": [1, 2]}),
        ('{"a": "http://x /* no */ //"}', {"a": "http://x /* no */ //"}),
        ('{"a": "\\" // no"}', {"a": '" // no'}),
        ('{\n\t"a":\t{"b":null}\n}', {"a": {"b": None}}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        ('/* a\n b */ {"a": true}', {"a": True}),
        ('\ufeff{"a": 1}', {"a": 1}),
    ],
)
def test_read(text: str, data: Any) -> None:
    source = read_jsonc(text, "x.json")
    assert (source.data, source.problems) == (data, [])


def test_places_are_those_of_the_text() -> None:
    source = read_jsonc('{ /* one\n two */ "a": 1, // x\n\t"b": [true]}', "x.json")
    assert source.positions.of_key(("a",)) == Position(2, 9)
    assert source.positions.of_value(("b", 0)) == Position(3, 8)


@pytest.mark.parametrize(
    "text", ["", "{", '{"a": }}', '{"a": 1, "a": 2}', "[1]", '{"a": /* never closed', '{"a": "', "\0"]
)
def test_broken(text: str) -> None:
    assert read_jsonc(text, "x.json").problems


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(categories=["L"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text("abcdef", min_size=1), values, max_size=5), st.booleans())
def test_all_json_is_read(data: dict[str, Any], indented: bool) -> None:
    source = read_jsonc(json.dumps(data, indent="\t" if indented else None), "x.json")
    assert (source.data, source.problems) == (data, [])


@given(st.text())
def test_nothing_crashes(text: str) -> None:
    read_jsonc(text, "x.json")
