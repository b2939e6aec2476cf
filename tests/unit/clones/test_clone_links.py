"""Repositories that lie elsewhere, of worktrees and submodules: whole ones in the copy, and nobody else's."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest
from cloned import Cloned, write

from engine.clones.base import TAR, make_base
from engine.clones.choice import choose_files
from engine.clones.commits import take_bundle
from engine.workspaces.clone_point import ClonePoint


@pytest.fixture
def cloned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloned:
    cloned = Cloned(tmp_path, monkeypatch)
    cloned.git("init", "-q")
    write(cloned.host, {"a": "a\n"})
    cloned.commit()
    return cloned


def copy(cloned: Cloned, source: Path, *, hide: tuple[str, ...] = ()) -> None:
    cloned.host = source
    make_base(ClonePoint(str(source), str(cloned.guest), hide=hide), cloned.directory)
    cloned.guest.mkdir()
    with tarfile.open(cloned.directory / TAR) as tar:
        tar.extractall(cloned.guest)


def add_submodule(cloned: Cloned, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    cloned.git("init", "-q", where=library)
    write(library, {"lib.c": "lib\n", ".gitignore": "out/\n"})
    cloned.git("add", "-A", where=library)
    cloned.git("commit", "-qm", "library", where=library)
    cloned.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "deep/lib")
    cloned.commit()
    write(cloned.host, {"deep/lib/out/built": "x", "deep/lib/untracked": "u\n"})


def test_two_worktrees_are_two_copies_each_with_the_whole_repository_on_its_branch(
    cloned: Cloned, tmp_path: Path
) -> None:
    repository = cloned.host
    cloned.git("config", "http.extraHeader", "Authorization: secret-word")
    for branch in ("one", "two"):
        tree = tmp_path / branch
        cloned.git("worktree", "add", "-q", "-b", branch, str(tree), where=repository)
        write(tree, {branch: f"{branch}\n"})
        cloned.git("add", "-A", where=tree)
        cloned.git("commit", "-qm", branch, where=tree)
        write(tree, {"dirty": "d\n"})
        copy(cloned, tree)
        assert cloned.git("log", "--format=%s", where=cloned.guest) == f"{branch}\nx\n"
        assert cloned.git("branch", "--show-current", where=cloned.guest) == f"{branch}\n"
        assert cloned.git("status", "--porcelain", where=cloned.guest) == "?? dirty\n"
        assert cloned.git("fsck", "--strict", where=cloned.guest) == ""
        assert (cloned.guest / ".git").is_dir() and not (cloned.guest / ".git/hooks").exists()
        assert "secret-word" not in (cloned.guest / ".git/config").read_text()
        assert choose_files(tree).head and cloned.found() == {}
        write(cloned.guest, {"a": "changed\n"})
        cloned.git("commit", "-qam", "guest", where=cloned.guest)
        assert cloned.found() == {"a": "changed"}
        cloned.git("bundle", "create", "-q", str(tmp_path / "bundle"), "HEAD", where=cloned.guest)
        take_bundle(tree, tmp_path / "bundle", f"try-{branch}")
        (tmp_path / "bundle").unlink()
        assert cloned.git("log", "--format=%s", f"try-{branch}", where=repository) == f"guest\n{branch}\nx\n"
        shutil.rmtree(cloned.guest)


def test_submodules_come_with_their_files_and_their_repositories(cloned: Cloned, tmp_path: Path) -> None:
    add_submodule(cloned, tmp_path)
    copy(cloned, cloned.host)
    inner = cloned.guest / "deep" / "lib"
    assert sorted(path.name for path in inner.iterdir()) == [".git", ".gitignore", "lib.c", "untracked"]
    assert (inner / ".git").is_dir(), "a whole one"
    assert cloned.git("log", "--format=%s", where=inner) == "library\n"
    assert cloned.git("status", "--porcelain", where=inner) == "?? untracked\n"
    assert cloned.git("diff", "--ignore-submodules=untracked", where=cloned.guest) == ""
    assert cloned.found() == {}
    write(inner, {"lib.c": "changed\n", "new.c": "new\n", "out/more": "ignored"})
    (inner / "untracked").unlink()
    assert cloned.found() == {
        "deep/lib/lib.c": "changed",
        "deep/lib/new.c": "new",
        "deep/lib/untracked": "gone",
    }


def test_a_submodule_as_the_project_and_one_in_a_worktree(cloned: Cloned, tmp_path: Path) -> None:
    add_submodule(cloned, tmp_path)
    repository = cloned.host
    copy(cloned, repository / "deep" / "lib")
    assert cloned.git("log", "--format=%s", where=cloned.guest) == "library\n"
    assert cloned.git("status", "--porcelain", where=cloned.guest) == "?? untracked\n"
    shutil.rmtree(cloned.guest)
    cloned.git("worktree", "add", "-q", "-b", "one", str(tmp_path / "one"), where=repository)
    where = tmp_path / "one"
    cloned.git("-c", "protocol.file.allow=always", "submodule", "update", "--init", "-q", where=where)
    copy(cloned, where)
    assert cloned.git("log", "--format=%s", where=cloned.guest / "deep" / "lib") == "library\n"


def test_a_file_that_names_somebody_elses_repository_is_not_believed(cloned: Cloned, tmp_path: Path) -> None:
    """Whoever can write in the directory can write such a file, and another repository is none of its business."""
    private = cloned.host
    cloned.git("worktree", "add", "-q", "-b", "one", str(tmp_path / "one"))
    add_submodule(cloned, tmp_path)
    evil = tmp_path / "evil"
    for target in (private / ".git", private / ".git/worktrees/one", private / ".git/modules/deep/lib"):
        shutil.rmtree(evil, ignore_errors=True)
        write(evil, {"file": "x\n", ".git": f"gitdir: {target}\n"})
        choice = choose_files(evil)
        assert choice.linked == () and "another directory" in str(choice.note), target
    # A worktree of the attacker's own, whose `commondir` leads to it.
    shutil.rmtree(evil)
    own = tmp_path / "own" / "worktrees" / "evil"
    write(own, {"commondir": f"{private}/.git\n", "gitdir": f"{evil}/.git\n", "HEAD": "ref: refs/heads/one\n"})
    write(evil, {"file": "x\n", ".git": f"gitdir: {own}\n"})
    assert choose_files(evil).linked == ()


def test_a_submodule_that_names_somebody_elses_repository_is_left_out(cloned: Cloned, tmp_path: Path) -> None:
    add_submodule(cloned, tmp_path)
    private = tmp_path / "private"
    private.mkdir()
    cloned.git("init", "-q", where=private)
    write(private, {"secret": "s\n"})
    cloned.git("add", "-A", where=private)
    cloned.git("commit", "-qm", "private", where=private)
    (cloned.host / "deep/lib/.git").write_text(f"gitdir: {private}/.git\n")
    choice = choose_files(cloned.host)
    assert choice.linked == () and "deep/lib" in str(choice.note)
    assert choice.files is not None and not any(path.startswith("deep/lib/") for path in choice.files)


def test_what_is_hidden_of_a_submodule_stays_here(cloned: Cloned, tmp_path: Path) -> None:
    add_submodule(cloned, tmp_path)
    copy(cloned, cloned.host, hide=("deep/",))
    assert not (cloned.guest / "deep").exists() and (cloned.guest / "a").exists()
