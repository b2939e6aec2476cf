"""Looking at a project that is odd or hostile: no link out of it, no file that blocks, no text that takes long."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from starter_world import MARKS, look

from engine.starter.looking import look_at


def test_links_out_of_the_project_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"dependencies": {"mine": "1"}}')
    project = tmp_path / "project"
    project.mkdir()
    (project / "package.json").symlink_to("../secret.json")
    (project / "go.mod").symlink_to("/etc/passwd")
    found = look(project)
    assert found.proposals == [] and len(found.notes) == 2


def test_odd_files_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "package.json")
    (tmp_path / "compose.yaml").mkdir()
    (tmp_path / "pyproject.toml").symlink_to("pyproject.toml")
    (tmp_path / "Gemfile").write_bytes(b"\n" * (2 * 1024 * 1024))
    found = look(tmp_path)
    assert found.proposals == []
    assert any("Gemfile is larger" in note for note in found.notes)


@pytest.mark.parametrize("name", ["Gemfile", "Dockerfile", "requirements.txt", ".tool-versions", ".npmrc"])
def test_no_text_takes_long(name: str, tmp_path: Path) -> None:
    """Patterns over untrusted text: no backtracking that grows with the square of it."""
    (tmp_path / "package.json").write_text("{}")
    (tmp_path / "compose.yaml").write_text("services: {a: {build: .}}")
    for text in ("\n" * 500_000, " " * 500_000, "a" * 500_000, "FROM " * 100_000, "source " * 70_000, "-r " * 150_000):
        (tmp_path / name).write_text(text)
        look_at(tmp_path, MARKS)
