"""How problems are shown."""

from __future__ import annotations

import pytest

from sandboxfile import Diagnostic, SandboxfileError
from sandboxfile.diagnostics import did_you_mean, one_of, printable, quote
from sandboxfile.positions import Position


def test_a_diagnostic_shows_place_line_caret_and_hint() -> None:
    diagnostic = Diagnostic(
        Position(14, 7), ("mounts", 2, "target"), "must be absolute, got 'src'", "write '/src'", line="    - {t: src}"
    )
    assert diagnostic.render() == (
        "Sandboxfile.yaml:14:7: mounts[2].target: must be absolute, got 'src'\n"
        "      - {t: src}\n"
        "        ^\n"
        "  hint: write '/src'"
    )


def test_without_a_place_there_is_no_line() -> None:
    assert str(Diagnostic(None, (), "there is no such file", file="a/b.yaml")) == "a/b.yaml: there is no such file"


def test_terminal_escapes_and_direction_marks_are_visible() -> None:
    diagnostic = Diagnostic(
        Position(1, 5), ("\x1b[2J",), "got \x1b]0;x\x07", "\u202eevil", "a\x1b.yaml", "ab\x1b[1m\u202e\tz"
    )
    text = diagnostic.render()
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "\\x1b" in text
    assert "\\u202e" in text


@pytest.mark.parametrize(
    ("line", "column", "caret"),
    [("a: b", 4, 3), ("\ta", 2, 1), ("日本: x", 5, 6), ("e\u0301: x", 5, 3), ("\x1bx", 2, 4), ("ab", 9, 2)],
)
def test_the_caret_stands_under_the_column(line: str, column: int, caret: int) -> None:
    rows = Diagnostic(Position(1, column), (), "m", line=line).render().split("\n")
    assert rows[2] == "  " + " " * caret + "^"


def test_long_lines_are_cut_around_the_caret() -> None:
    line = "x" * 5000 + "HERE" + "y" * 5000
    rows = Diagnostic(Position(1, 5001), (), "m", line=line).render().split("\n")
    assert len(rows[1]) < 130
    assert rows[1][rows[2].index("^") :].startswith("HERE")


@pytest.mark.parametrize("columns", [20, 40, 79, 80, 200])
@pytest.mark.parametrize(
    "line", ["x" * 60 + "HERE" + "y" * 90, "\u65e5" * 60 + "HERE" + "\u672c" * 90, "HERE" + "y" * 90]
)
def test_lines_are_cut_to_the_columns_of_a_terminal(line: str, columns: int) -> None:
    diagnostic = Diagnostic(Position(1, line.index("HERE") + 1), (), "m", line=line)
    for text in (diagnostic.render(columns), SandboxfileError([diagnostic]).within(columns)):
        _, shown, caret = text.split("\n")
        wide = sum(2 if char in "\u65e5\u672c" else 1 for char in shown)
        assert wide <= columns
        before = shown[: shown.index("HERE")]
        assert caret.index("^") == sum(2 if char in "\u65e5\u672c" else 1 for char in before)


def test_without_columns_a_line_is_cut_as_before() -> None:
    diagnostic = Diagnostic(Position(1, 1), (), "m", line="x" * 100)
    assert "x" * 100 in diagnostic.render()
    assert SandboxfileError([diagnostic]).within(None) == str(SandboxfileError([diagnostic]))


def test_an_error_lists_all_problems_in_the_order_of_the_file() -> None:
    late = Diagnostic(Position(9, 1), ("b",), "late")
    early = Diagnostic(Position(2, 3), ("a",), "early", "do this")
    error = SandboxfileError([late, early])
    assert error.diagnostics == (early, late)
    assert str(error).index("early") < str(error).index("late")
    assert error.brief == "Sandboxfile.yaml has 2 problems"
    assert error.hint is None
    assert SandboxfileError([early]).hint == "do this"


def test_an_error_does_not_flood() -> None:
    error = SandboxfileError(Diagnostic(Position(n, 1), (), f"m{n}") for n in range(1, 1001))
    assert len(error.diagnostics) == 1000
    assert str(error).endswith("... and 950 more")


def test_words() -> None:
    assert did_you_mean("agnet", ["agent", "ports"]) == "did you mean 'agent'?"
    assert did_you_mean("gte", ["GET", "PUT"]) == "did you mean 'GET'?"
    assert did_you_mean("zzzz", ["agent"]) is None
    assert did_you_mean("x" * 1_000_000, ["agent"]) is None
    assert one_of(["a", "b", "c"]) == "a, b or c"
    assert one_of(["a"]) == "a"
    assert quote("x" * 1000).endswith("...")
    assert printable("a\nb\U000e0001") == "a\\x0ab\\U000e0001"
