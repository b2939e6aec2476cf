"""Plain data as typed values: what was written comes back, and everything else is told by its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from engine.decoding import decode


@dataclass(frozen=True)
class Inner:
    name: str
    kind: Literal["a", "b"] = "a"


class Row(NamedTuple):
    count: int
    notes: list[str] = []  # noqa: RUF012


@dataclass(frozen=True)
class Outer:
    inner: Inner
    several: tuple[Inner, ...]
    pair: tuple[str, int]
    by_name: Mapping[str, tuple[Inner, ...]]
    path: Path
    maybe: Inner | None
    seconds: float
    anything: Mapping[str, Any] = field(default_factory=dict)
    flag: bool = False


VALUE = Outer(Inner("x"), (Inner("y", "b"),), ("a", 1), {"k": (Inner("z"),)}, Path("/p"), None, 1.0, {"q": [1]}, True)


def plain(**changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps({**asdict(VALUE), "path": "/p"}))
    return {**value, **changes}


def test_what_was_written_comes_back() -> None:
    assert decode(Outer, plain()) == VALUE
    assert decode(Outer, plain(maybe={"name": "m"}, seconds=1)).maybe == Inner("m")
    assert decode(Row, {"count": 1}) == Row(1) and decode(Row, {"count": 1, "notes": ["x"]}).notes == ["x"]


def test_names_that_are_no_field_are_passed_over() -> None:
    assert decode(Outer, plain(version=3)) == VALUE


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"inner": {}}, "inner.name: a value is needed, not NoneType"),
        ({"inner": {"name": 3}}, "inner.name: str is needed, not int"),
        ({"inner": {"name": "x", "kind": "c"}}, "inner.kind: 'a' or 'b' is needed, not str"),
        ({"inner": {"name": "x", "kind": []}}, "inner.kind: 'a' or 'b' is needed, not list"),
        ({"several": "abc"}, "several: a list is needed, not str"),
        ({"several": [{"name": "x"}, None]}, "several[1]: an object is needed, not NoneType"),
        ({"pair": ["a"]}, "pair: a list of 2 is needed, not list"),
        ({"pair": ["a", True]}, "pair[1]: int is needed, not bool"),
        ({"by_name": []}, "by_name: an object is needed, not list"),
        ({"by_name": {"k": [3]}}, "by_name.k[0]: an object is needed, not int"),
        ({"path": 3}, "path: Path is needed, not int"),
        ({"maybe": 3}, "maybe: an object is needed, not int"),
        ({"seconds": "1"}, "seconds: float is needed, not str"),
        ({"flag": 1}, "flag: bool is needed, not int"),
    ],
)
def test_what_is_of_the_wrong_kind_is_told_by_its_place(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError) as caught:
        decode(Outer, plain(**change))
    assert str(caught.value) == told


@pytest.mark.parametrize("value", [None, 3, "x", []])
def test_what_is_no_object_at_all(value: object) -> None:
    with pytest.raises(ValueError, match="the whole: an object is needed"):
        decode(Outer, value)
