"""YAML text to data and places: nothing surprising comes in, nothing hostile takes long."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from sandboxfile.positions import Position, render_path
from sandboxfile.reading.source import MAX_BYTES, read_source


def data_of(text: str) -> Any:
    source = read_source(text, "f.yaml")
    assert source.problems == []
    return source.data


def messages_of(text: str | bytes) -> list[str]:
    return [problem.message for problem in read_source(text, "f.yaml").problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("Off", "Off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("'~'", "~"),
        ("12", 12),
        ("-12", -12),
        ("+12", 12),
        ("0", 0),
        ("0o17", 15),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.2.3", "1.2.3"),
        ("22:22", "22:22"),
        ("190:20:30", "190:20:30"),
        ("2024-01-01", "2024-01-01"),
        ("'012'", "012"),
        ('"a\\tb"', "a\tb"),
        ("9223372036854775807", 2**63 - 1),
        ("!!str 12", "12"),
        ("! 12", "12"),
        ("=", "="),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    data = data_of(f"k: {text}\n")
    assert data == {"k": value}
    assert type(data["k"]) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("012", "a leading zero"),
        ("-007", "a leading zero"),
        ("00", "a leading zero"),
        ("9223372036854775808", "too large"),
        ("9" * 5000, "too large"),
        ("0x" + "f" * 5000, "would be read as the number"),
        ("0x1F", "would be read as the number 31"),
        (".inf", "not a usable number"),
        ("-.INF", "not a usable number"),
        (".NaN", "not a usable number"),
        ("1e999", "not a usable number"),
        ("!!binary aGk=", "the tag !!binary"),
        ("!!set {a}", "the tag !!set"),
        ("!env X", "the tag !env"),
    ],
)
def test_surprising_scalars_are_refused_once(text: str, message: str) -> None:
    found = messages_of(f"k: {text}\n")
    assert len(found) == 1
    assert message in found[0]


def test_positions_of_keys_and_values() -> None:
    source = read_source("a:\n  - b: 1\n    c: [x, y]\n", "f.yaml")
    assert source.positions.of_value(("a", 0, "c", 1)) == Position(3, 12)
    assert source.positions.of_key(("a", 0, "c")) == Position(3, 5)
    assert source.positions.of_key(("a", 0)) == Position(2, 5)
    assert source.positions.of_value(("a", 0, "c", 1, "unknown")) == Position(3, 12)


def test_positions_count_characters_and_every_kind_of_line_end() -> None:
    source = read_source("é: ü\r\nb: 1\rc: [ä, x]\n", "f.yaml")
    assert source.lines == ["é: ü", "b: 1", "c: [ä, x]", ""]
    assert source.positions.of_value(("c", 1)) == Position(3, 8)


def test_merge_keys_give_way_to_own_keys_and_keep_places() -> None:
    text = "base: &b {x: 1, y: {z: 2}}\nmore: &m {x: 5, w: 6}\nown:\n  <<: [*b, *m]\n  x: 3\n"
    source = read_source(text, "f.yaml")
    assert source.problems == []
    assert source.data["own"] == {"x": 3, "y": {"z": 2}, "w": 6}
    assert source.positions.of_value(("own",)) == Position(4, 3)
    assert source.positions.of_value(("own", "x")) == Position(5, 6)
    assert source.positions.of_value(("own", "y", "z")) == Position(1, 24)


def test_merge_wins_in_order_wherever_it_stands() -> None:
    assert data_of("b: &b {x: 1}\no: {x: 2, <<: *b}\n")["o"] == {"x": 2}


def test_an_alias_is_a_copy() -> None:
    data = data_of("a: &a [1]\nb: *a\n")
    assert data["b"] == [1]
    assert data["a"] is not data["b"]


def test_all_recoverable_problems_at_once() -> None:
    text = "a: 1\na: 2\n3: x\nb: 012\nc: !t x\n"
    assert len(messages_of(text)) == 4


def test_size_limit_is_exact() -> None:
    assert messages_of(b"a: 1\n" + b"#" * (MAX_BYTES - 5)) == []
    assert "larger than 1024 KiB" in messages_of(b"a: 1\n" + b"#" * (MAX_BYTES - 4))[0]


def _laughs(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


def _chain(levels: int) -> str:
    return "\n".join(["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, levels)])


HOSTILE = {
    "billion laughs": (_laughs(30), "aliases expand to more than"),
    "laughs by merge": (
        "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 30)),
        "aliases expand to more than",
    ),
    "one large value, many times": (
        f"a: &a {'x' * 500_000}\nb: [{', '.join(['*a'] * 15_000)}]",
        "expand to more than 4096 KiB",
    ),
    "one large key, many times": (
        f"a: &a {{{'x' * 1000}: 1}}\nb: [{', '.join(['*a'] * 9_000)}]",
        "expand to more than 4096 KiB",
    ),
    "chain of aliases": (_chain(5000), "aliases nest deeper"),
    "merge chain": (
        "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: *a{n - 1}}}\n" for n in range(1, 3000)),
        "aliases nest deeper",
    ),
    "alias of itself": ("a: &a {b: *a}", "no anchor"),
    "flow lists": ("a: " + "[" * 500_000, "nested deeper"),
    "flow mappings": ("a: " + "{a: " * 100_000, "nested deeper"),
    "block lists": ("- " * 200_000, "nested deeper"),
    "indentation": ("\n".join(" " * n + "a:" for n in range(1000)), "nested deeper"),
    "complex keys": ("? " * 100_000, "nested deeper"),
    "many values": ("a: [" + "x, " * 100_000 + "]", "more than 20000 values"),
    "many keys": ("\n".join(f"k{n}:" for n in range(50_000)), "more than 20000 values"),
    "long line": ("a: " + "x" * 1_000_000, None),
    "long quote": ('a: "' + "x" * 1_000_000, "never closed"),
    "long comment": ("a: 1\n" + "#" * 1_000_000, None),
    "bad unicode escape": ('a: "\\UFFFFFFFF"', "cannot be read as YAML"),
    "surrogate": ("a: \ud800", "U+D800"),
    "null byte": ("a: \0", "U+0000"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.timeout(20)
def test_hostile_text_ends_in_a_message(name: str) -> None:
    text, message = HOSTILE[name]
    found = messages_of(text)
    if message is None:
        assert found == []
    else:
        assert message in found[-1]


def test_reused_anchors_are_a_problem_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "already used in line 1" in messages_of("a: [&x 1, &x 2]")[0]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("mounts", 2, "target"), "mounts[2].target"),
        (("services", "my web", "x-y"), "services['my web'].x-y"),
        (("a.b",), "['a.b']"),
        ((0,), "[0]"),
    ],
)
def test_render_path(path: tuple[str | int, ...], text: str) -> None:
    assert render_path(path) == text
