"""Starts that are kept, and when they are of no use any more."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from engine.recall import looks as looks_module
from engine.recall import memory
from engine.recall.looks import Looks
from engine.recall.memory import Start, forget, recall, remember, words_of
from engine.state.layout import Layout

WORDS = ("up", "/shop", "", "", "")
KEY = "0" * 32


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(*(tmp_path / name for name in ("cache", "state", "runtime", "config")))
    entry = found.entry("image", KEY)
    entry.mkdir(parents=True)
    found.entry_marker(entry).touch()
    return found


@pytest.fixture
def looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Looks:
    monkeypatch.setattr(looks_module, "FRESH_NS", -(10**18))
    monkeypatch.setenv("ASKED", "one")
    (tmp_path / "Sandboxfile.yaml").write_text("x")
    found = Looks()
    found.add(str(tmp_path / "Sandboxfile.yaml"), True, "content")
    found.add_variable("ASKED", "one")
    return found


def start(layout: Layout) -> Start:
    return Start({"name": "shop"}, {"name": "shop"}, {"image": "i"}, ["TOKEN"], [str(layout.entry("image", KEY))])


def now(layout: Layout, environment: dict[str, str] | None = None, *, after: float = 0.0) -> Start | None:
    return recall(layout, WORDS, {"ASKED": "one"} if environment is None else environment, time.time() + after)


def test_what_was_kept_is_found_again(layout: Layout, looks: Looks) -> None:
    assert now(layout) is None
    remember(layout, WORDS, start(layout), looks)
    assert now(layout) == start(layout)
    assert recall(layout, ("up", "/other", "", "", ""), {"ASKED": "one"}, time.time()) is None
    (file,) = (layout.state / "remembered").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    forget(layout, WORDS)
    forget(layout, WORDS)
    assert now(layout) is None


def test_a_changed_file_or_variable_ends_it(layout: Layout, looks: Looks, tmp_path: Path) -> None:
    remember(layout, WORDS, start(layout), looks)
    assert now(layout, {"ASKED": "two"}) is None
    (tmp_path / "Sandboxfile.yaml").write_text("y")
    assert now(layout) is None


def test_what_another_installation_has_kept_is_not_taken(
    layout: Layout, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own files, which are noted, are as they were."""
    remember(layout, WORDS, start(layout), looks)
    assert now(layout) == start(layout)
    monkeypatch.setattr(memory, "__file__", "/opt/another/engine/recall/memory.py")
    assert now(layout) is None


def test_our_own_program_is_part_of_it(layout: Layout, looks: Looks) -> None:
    remember(layout, WORDS, start(layout), looks)
    (file,) = (layout.state / "remembered").iterdir()
    paths = [path for path, *_ in json.loads(file.read_text())["looks"]["paths"]]
    assert memory.__file__ in paths


def test_looks_that_are_not_whole_are_not_kept(layout: Layout, looks: Looks) -> None:
    looks.fail("a program was asked")
    remember(layout, WORDS, start(layout), looks)
    assert not (layout.state / "remembered").exists()


def test_what_up_itself_has_written_is_not_taken_for_what_was_there(
    layout: Layout, looks: Looks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An approval that is given in this very `up` and taken back later: the next one must ask."""
    monkeypatch.setenv("ASKED", "one")
    looks.add(str(tmp_path / "approval.json"), True, "content")
    (tmp_path / "approval.json").write_text("yes")
    remember(layout, WORDS, start(layout), looks)
    (tmp_path / "approval.json").unlink()
    assert now(layout) is None


def test_old_files_are_removed(layout: Layout, looks: Looks) -> None:
    old = layout.remembered("0" * 16)
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    os.utime(old, (1, 1))
    remember(layout, WORDS, start(layout), looks)
    assert not old.exists() and now(layout) is not None


def test_a_day_later_everything_is_read_again(layout: Layout, looks: Looks) -> None:
    remember(layout, WORDS, start(layout), looks)
    assert now(layout, after=memory.LONGEST_S - 60) is not None
    assert now(layout, after=memory.LONGEST_S + 60) is None
    assert now(layout, after=-memory.LONGEST_S - 60) is None, "the clock was set back"


def test_a_cache_entry_that_has_gone_ends_it(layout: Layout, looks: Looks) -> None:
    remember(layout, WORDS, start(layout), looks)
    layout.entry_marker(layout.entry("image", KEY)).unlink()
    assert now(layout) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"version": 1}', '{"version": 0}', '{"version": 1, "host": 0, "looks": {}}']
)
def test_a_damaged_file_is_none(layout: Layout, looks: Looks, text: str) -> None:
    remember(layout, WORDS, start(layout), looks)
    (file,) = (layout.state / "remembered").iterdir()
    file.write_text(text)
    assert now(layout) is None


@pytest.mark.parametrize("key", ["version", "host", "looks", "launch", "entries", "needs"])
def test_each_part_must_be_there(layout: Layout, looks: Looks, key: str) -> None:
    remember(layout, WORDS, start(layout), looks)
    (file,) = (layout.state / "remembered").iterdir()
    value = json.loads(file.read_text())
    del value[key]
    file.write_text(json.dumps(value))
    assert now(layout) is None


def test_another_python_reads_everything_again(layout: Layout, looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(layout, WORDS, start(layout), looks)
    monkeypatch.setattr(sys, "hexversion", sys.hexversion + 1)
    assert now(layout) is None


def test_the_words_of_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert words_of("", None, yes=False) == ("up", str(tmp_path), "", "", "")
    assert len({words_of("", None, yes=True), words_of("", "shop", yes=False), words_of("..", None, yes=False)}) == 3
    assert os.fspath(tmp_path) in words_of("x", "y", yes=True)
