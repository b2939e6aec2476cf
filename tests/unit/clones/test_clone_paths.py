"""Which clone a path of the command line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import EngineError
from engine.lifecycle.clones import assign_paths
from engine.workspaces.clone_point import ClonePoint


@pytest.mark.parametrize(
    ("where", "words", "assigned"),
    [
        ("one", [], [[], []]),
        ("one", ["f"], [["f"], None]),
        ("one/sub", ["f", "../g"], [["sub/f", "g"], None]),
        ("one", ["."], [[], None]),
        ("one", ["../two/f"], [None, ["f"]]),
        ("one", ["f", "../two/g"], [["f"], ["g"]]),
        ("elsewhere", ["sub/f"], [["sub/f"], ["sub/f"]]),
    ],
)
def test_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, words: list[str], assigned: list[list[str] | None]
) -> None:
    for name in ("one/sub", "two", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / where)
    points = [ClonePoint(str(tmp_path / name), f"/{name}") for name in ("one", "two")]
    assert assign_paths(points, words) == assigned


@pytest.mark.parametrize("word", [".", "..", "/etc/passwd", "../elsewhere2/x"])
def test_a_word_that_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EngineError, match="is in no directory that was copied"):
        assign_paths([ClonePoint("/srv/one", "/one")], [word])
