"""Commits of a clone become a branch: nothing is run, nothing else changes, and a broken object is refused."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
from cloned import Cloned, write
from fake_guest import Answer, Asked, FakeGuest

from engine.clones import commits as commits_module
from engine.clones.base import Base
from engine.clones.commits import Pulled, check_branch, count_unnamed, pull_commits, take_bundle
from engine.clones.git import run_git
from engine.errors import EngineError
from vmm.channel.errors import GuestError


@pytest.fixture
def cloned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloned:
    cloned = Cloned(tmp_path, monkeypatch)
    cloned.git("init", "-q")
    write(cloned.host, {"a": "a"})
    cloned.commit()
    cloned.clone()
    bundle = str(tmp_path / "in-guest.bundle")
    monkeypatch.setattr(commits_module, "PACK", commits_module.PACK.replace(commits_module.BUNDLE, bundle))
    monkeypatch.setattr(commits_module, "BUNDLE", bundle)

    async def copied(channel: object, source: str, target: Path, limit: int) -> None:
        shutil.copyfile(source, target)

    monkeypatch.setattr(commits_module, "copy_out", copied)
    return cloned


def pull(cloned: Cloned, branch: str = "work") -> Pulled:
    def answer(asked: Asked) -> Answer:
        done = subprocess.run(asked.argv, capture_output=True)
        return Answer(done.returncode, done.stdout, done.stderr)

    async def scenario() -> Pulled:
        async with FakeGuest() as guest:
            guest.answer("", answer)
            base = Base.load(cloned.directory)
            cloned.blobs.mkdir(exist_ok=True)
            return await pull_commits(guest, str(cloned.guest), cloned.host, base.head, branch, cloned.blobs)

    return asyncio.run(scenario())


def test_commits_become_a_branch(cloned: Cloned, tmp_path: Path) -> None:
    write(cloned.guest, {"a": "b", "new": "n"})
    cloned.git("add", "-A", where=cloned.guest)
    cloned.git("commit", "-qm", "work of the agent", where=cloned.guest)
    write(cloned.guest, {"left": "x"})
    hook = cloned.host / ".git/hooks/reference-transaction"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    assert pull(cloned) == Pulled("work", 1, 1)
    assert not (tmp_path / "ran").exists(), "no hook has run"
    hook.unlink()
    assert cloned.git("log", "--format=%s", "work") == "work of the agent\nx\n"
    assert cloned.git("status", "--porcelain") == "" and (cloned.host / "a").read_text() == "a"
    assert cloned.git("branch", "--show-current") == "main\n"


def test_nothing_was_committed(cloned: Cloned) -> None:
    assert pull(cloned) == Pulled("work", 0, 0)
    assert cloned.git("branch", "--list", "work") == ""


def test_a_branch_that_is_there(cloned: Cloned) -> None:
    cloned.git("branch", "work")
    with pytest.raises(EngineError, match="there is a branch work already"):
        check_branch(cloned.host, "work", force=False)
    check_branch(cloned.host, "work", force=True)
    check_branch(cloned.host, "other", force=False)


@pytest.mark.parametrize("name", ["-x", "--upload-pack=x", "a..b", "a b", "", "a/.lock", "@{-1}"])
def test_what_is_no_branch(cloned: Cloned, name: str) -> None:
    with pytest.raises(EngineError, match="cannot be the name of a branch"):
        check_branch(cloned.host, name, force=False)


def test_a_directory_without_a_repository(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is no git repository"):
        check_branch(tmp_path, "work", force=False)


def test_a_tree_with_a_repository_s_name_in_it_is_refused(cloned: Cloned, tmp_path: Path) -> None:
    """What git itself would never commit, a guest can write by hand."""
    blob = cloned.git("hash-object", "-w", "a", where=cloned.guest).strip()
    make = ["git", "-c", "safe.directory=*", "mktree"]
    entry = f"100644 blob {blob}\t.git\n"
    tree = subprocess.run(make, cwd=cloned.guest, input=entry, capture_output=True, text=True, check=True).stdout
    commit = cloned.git("commit-tree", tree.strip(), "-p", "HEAD", "-m", "evil", where=cloned.guest).strip()
    cloned.git("update-ref", "HEAD", commit, where=cloned.guest)
    with pytest.raises(EngineError, match="git fetch failed"):
        pull(cloned)
    assert cloned.git("branch", "--list", "work") == ""


def test_what_is_no_bundle(cloned: Cloned, tmp_path: Path) -> None:
    other = tmp_path / "other"
    cloned.git("clone", "-q", str(cloned.host), str(other), where=tmp_path)
    cloned.git("commit", "-q", "--allow-empty", "-m", "somebody's secret work", where=other)
    bundle = tmp_path / "x.bundle"
    # The second one leads git to a repository elsewhere on this host.
    for content in (b"# v2 git bundle\nnothing\n", b"gitdir: %s/.git\n" % bytes(other)):
        bundle.write_bytes(content)
        with pytest.raises(EngineError, match="git bundle failed"):
            take_bundle(cloned.host, bundle, "work")
    bundle.unlink()
    other.rename(bundle)
    with pytest.raises(EngineError, match="is no file"):
        take_bundle(cloned.host, bundle, "work")
    assert cloned.git("branch", "--list", "work") == ""


def test_a_repository_of_the_other_kind_of_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cloned = Cloned(tmp_path, monkeypatch)
    cloned.git("init", "-q", "--object-format=sha256")
    write(cloned.host, {"a": "a"})
    cloned.commit()
    cloned.git("branch", "side")
    cloned.git("commit", "-q", "--allow-empty", "-m", "more")
    cloned.git("bundle", "create", "-q", str(tmp_path / "b"), "HEAD")
    cloned.git("reset", "-q", "--hard", "side")
    take_bundle(cloned.host, tmp_path / "b", "work")
    assert cloned.git("log", "-1", "--format=%s", "work") == "more\n"


def test_commits_on_any_branch_are_counted(cloned: Cloned) -> None:
    def count() -> int:
        def answer(asked: Asked) -> Answer:
            done = subprocess.run(asked.argv, input=bytes(asked.stdin), capture_output=True)
            return Answer(done.returncode, done.stdout, done.stderr)

        async def scenario() -> int:
            async with FakeGuest() as guest:
                guest.answer("", answer)
                return await count_unnamed(guest, str(cloned.guest), Base.load(cloned.directory).refs)

        return asyncio.run(scenario())

    assert count() == 0
    cloned.git("checkout", "-q", "-b", "side", where=cloned.guest)
    cloned.git("commit", "-q", "--allow-empty", "-m", "x", where=cloned.guest)
    cloned.git("checkout", "-q", "main", where=cloned.guest)
    assert count() == 1
    (cloned.guest / ".git/refs/heads/main").write_text("nonsense\n")
    with pytest.raises(GuestError, match="does not say what was committed"):
        count()


def test_git_asks_no_network_for_the_name_of_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does for the reflog of a fetch, where nothing says who the user is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("EMAIL", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    who = run_git(["var", "GIT_COMMITTER_IDENT"], tmp_path).stdout.decode()
    assert "<sandbox@localhost>" in who
    (tmp_path / ".gitconfig").write_text("[user]\nname = me\nemail = me@example.org\n")
    assert "<me@example.org>" in run_git(["var", "GIT_COMMITTER_IDENT"], tmp_path).stdout.decode()
