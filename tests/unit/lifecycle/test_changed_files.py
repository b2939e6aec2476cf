"""What a task has changed in a workspace, seen from outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.lifecycle import changed_files
from engine.lifecycle.changed_files import Look, changed_between, look_at


def test_new_changed_and_gone(tmp_path: Path) -> None:
    for name in ("same", "changed", "gone", "deep/er/file", ".git/index"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    before = look_at([str(tmp_path)])
    (tmp_path / "changed").write_text("longer")
    (tmp_path / "gone").unlink()
    (tmp_path / "deep/er/new").touch()
    (tmp_path / ".git/index").write_text("longer")
    (tmp_path / "link").symlink_to("/etc")
    os.utime(tmp_path / "deep/er/file", (1, 1))
    after = look_at([str(tmp_path)])
    assert changed_between(before, after) == ["changed", "deep/er/file", "deep/er/new", "gone", "link"]
    assert changed_between(before, before) == []


def test_what_cannot_be_looked_at_is_left_out(tmp_path: Path) -> None:
    assert look_at([str(tmp_path / "missing")]) == Look({}, whole=True)


def test_there_is_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changed_files, "MOST_FILES", 3)
    for number in range(5):
        (tmp_path / str(number)).touch()
    assert not look_at([str(tmp_path)]).whole
