"""A worktree and a submodule: where their repository is, and the mounts with which git works. With a real git."""

from __future__ import annotations

import subprocess
from pathlib import Path

from engine.workspaces.git_links import SUBMODULE, git_link


def git(directory: Path, *argv: str) -> None:
    settings = ("-c", "user.email=a@example.com", "-c", "user.name=a", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *settings, *argv], cwd=directory, check=True, capture_output=True)


def repository(directory: Path) -> Path:
    directory.mkdir()
    git(directory, "init", "-q", ".")
    git(directory, "commit", "-q", "--allow-empty", "-m", "x")
    return directory


def test_a_worktree(tmp_path: Path) -> None:
    main = repository(tmp_path / "main")
    git(main, "worktree", "add", "-q", "../wt")
    link = git_link(tmp_path / "wt", "/workspace")
    assert link is not None and link.repository == main / ".git"
    assert link.mounts == (("../main/.git", str(main / ".git")),)


def test_a_submodule(tmp_path: Path) -> None:
    repository(tmp_path / "lib")
    top = repository(tmp_path / "top")
    git(top, "submodule", "add", "-q", str(tmp_path / "lib"), "inner")
    link = git_link(top / "inner", "/workspace")
    assert link is not None and link.kind == SUBMODULE
    assert link.mounts == ((".", "/workspace/inner"), ("../.git", "/workspace/.git"))


def test_no_link(tmp_path: Path) -> None:
    assert git_link(repository(tmp_path / "main"), "/workspace") is None
    (tmp_path / ".git").write_text("something else")
    assert git_link(tmp_path, "/workspace") is None
