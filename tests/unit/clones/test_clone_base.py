"""What is copied into a clone, and what stays on this host."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cloned import Cloned, write

from engine.clones import base as base_module
from engine.clones.base import Base, make_base
from engine.clones.choice import choose_files
from engine.clones.git import run_git
from engine.errors import EngineError
from engine.workspaces.clone_point import ClonePoint


@pytest.fixture
def cloned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloned:
    return Cloned(tmp_path, monkeypatch)


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if ".git" not in path.relative_to(root).parts}


def test_what_git_ignores_stays_here_and_what_is_new_goes_along(cloned: Cloned) -> None:
    cloned.git("init", "-q")
    write(cloned.host, {".gitignore": "node_modules/\n*.log\n", "a.py": "a", "node_modules/x.js": "x", "b.log": "b"})
    cloned.commit()
    write(cloned.host, {"new/file.py": "n"})
    cloned.clone()
    assert names(cloned.guest) == {".gitignore", "a.py", "new", "new/file.py"}
    assert cloned.git("status", "--porcelain", where=cloned.guest) == "?? new/\n"
    assert cloned.git("log", "--format=%s", where=cloned.guest) == "x\n"


def test_without_git_all_is_copied(cloned: Cloned) -> None:
    write(cloned.host, {"a": "a", "d/b": "b"})
    (cloned.host / "empty").mkdir()
    (cloned.host / "link").symlink_to("d/b")
    cloned.clone()
    assert names(cloned.guest) == {"a", "d", "d/b", "empty", "link"}
    assert (cloned.guest / "link").readlink() == Path("d/b")


def test_what_is_left_out(cloned: Cloned) -> None:
    write(cloned.host, {"a": "a", "node_modules/b": "b", "node_modules2/c": "c"})
    cloned.clone("node_modules")
    assert names(cloned.guest) == {"a", "node_modules2", "node_modules2/c"}


def test_what_is_hidden(cloned: Cloned) -> None:
    write(cloned.host, {"a": "a", ".env": "x", "sub/.env": "x", "k.pem": "x", "deep/own/b": "b", "own": "o"})
    make_base(ClonePoint(str(cloned.host), "/w", hide=(".env", "*.pem", "/deep/own/")), cloned.directory)
    assert set(Base.load(cloned.directory).entries) == {"a", "own"}


def test_the_repository_comes_without_hooks_credentials_and_commands(cloned: Cloned) -> None:
    cloned.git("init", "-q")
    write(cloned.host, {"a": "a"})
    cloned.commit()
    cloned.git("remote", "add", "origin", "https://me:secret-word@git.example.com/a/b.git")
    cloned.git("config", "http.extraHeader", "Authorization: secret-word")
    cloned.git("config", "core.sshCommand", "touch /tmp/x")
    write(cloned.host, {".git/hooks/pre-commit": "#!/bin/sh\nexit 1\n", ".git/index.lock": "", ".git/notes": "n"})
    cloned.clone()
    kept = (cloned.guest / ".git/config").read_text()
    assert "secret-word" not in kept and "sshCommand" not in kept
    assert cloned.git("remote", "get-url", "origin", where=cloned.guest) == "https://git.example.com/a/b.git\n"
    assert not (cloned.guest / ".git/hooks").exists() and not (cloned.guest / ".git/index.lock").exists()
    assert not (cloned.guest / ".git/notes").exists()
    write(cloned.guest, {"a": "b"})
    cloned.git("commit", "-qam", "y", where=cloned.guest)


def test_a_repository_that_would_run_something_here_runs_nothing(cloned: Cloned, tmp_path: Path) -> None:
    cloned.git("init", "-q")
    write(cloned.host, {"a": "a", ".gitattributes": "* filter=evil\n"})
    cloned.commit()
    ran = tmp_path / "ran"
    for key in ("core.fsmonitor", "filter.evil.clean", "filter.evil.smudge", "core.pager", "alias.ls-files"):
        cloned.git("config", key, f"touch {ran}")
    write(cloned.host, {"a": "b"})
    cloned.clone()
    assert not ran.exists()
    subprocess.run(["git", "status"], cwd=cloned.host, capture_output=True)
    assert ran.exists(), "it would have been run by plain git"


def test_a_directory_of_a_repository_has_what_git_does_not_ignore(cloned: Cloned) -> None:
    cloned.git("init", "-q")
    write(cloned.host, {".gitignore": ".env\n", "sub/a": "a", "sub/.env": "secret", "b": "b"})
    cloned.commit()
    choice = choose_files(cloned.host / "sub")
    assert choice.files == {"a"} and choice.configuration is None


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://me:word@example.com/a.git", "https://example.com/a.git"),
        ("https://example.com/a.git?private_token=word", "https://example.com/a.git"),
        ("ssh://me:word@example.com/a.git", "ssh://example.com/a.git"),
        ("ssh://git@example.com/a.git", "ssh://git@example.com/a.git"),
        ("git@example.com:a/b.git", "git@example.com:a/b.git"),
        ("https://[x/y", None),
    ],
)
def test_addresses_of_remotes(cloned: Cloned, url: str, kept: str | None) -> None:
    cloned.git("init", "-q")
    cloned.git("config", "remote.origin.url", url)
    configuration = choose_files(cloned.host).configuration or ""
    assert "word" not in configuration and (f"url = {kept}\n" in configuration) == (kept is not None)


def test_borrowed_objects_are_refused(cloned: Cloned, tmp_path: Path) -> None:
    cloned.git("init", "-q")
    write(cloned.host, {"a": "a"})
    cloned.commit()
    cloned.git("clone", "-q", "--shared", str(cloned.host), str(tmp_path / "second"), where=tmp_path)
    with pytest.raises(EngineError, match="borrows objects") as caught:
        make_base(ClonePoint(str(tmp_path / "second"), "/w"), tmp_path / "base2")
    assert "repack" in str(caught.value.hint)


def test_a_directory_that_leads_through_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(EngineError, match="cannot be copied"):
        make_base(ClonePoint(str(tmp_path / "link"), "/w"), tmp_path / "base")


def test_a_file_that_keeps_changing(cloned: Cloned, monkeypatch: pytest.MonkeyPatch) -> None:
    write(cloned.host, {"a": "a" * 1000})
    plain = base_module.walk

    def shrinking(*arguments: object) -> object:
        for found in plain(*arguments):  # type: ignore[arg-type]
            if found.kind == "file":
                os.truncate(cloned.host / "a", 3)
            yield found
            write(cloned.host, {"a": "a" * 1000})

    monkeypatch.setattr(base_module, "walk", shrinking)
    with pytest.raises(EngineError, match="keeps changing"):
        make_base(cloned.point, cloned.directory)


def test_git_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="git ls-files failed") as caught:
        run_git(["ls-files"], tmp_path)
    assert "not a git repository" in str(caught.value.details)
