"""The attack "a tree with a .git": real git on both sides, so that it is the host's git that refuses it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from engine.attacks.host import tools
from engine.attacks.project import file_text, write_files
from engine.attacks.room import Ran, Room, Stage
from engine.attacks.trial import Trial
from engine.clones import commits
from engine.errors import EngineError


class GitRoom(Room):
    """The guest is a directory beside the host's; its shell is this host's, and `pull` packs and takes as ours does."""

    @property
    def guest(self) -> Path:
        return self.base / "guest"

    def sandbox(self, *argv: str, cwd: Path, timeout_s: float = 1.0, stdin: str | None = None) -> Ran:
        return self.pull(argv[-1]) if argv[0] == "pull" else self.shell(stdin or "")

    def shell(self, script: str) -> Ran:
        script = script.replace("cd /copied", f"cd {self.guest}").replace("HOME=/root", f"HOME={self.base}")
        done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True)
        return Ran(("exec",), done.returncode, done.stdout, done.stderr, 0.0)

    def pull(self, branch: str) -> Ran:
        bundle = self.base / "bundle"
        packing = ["git", "bundle", "create", "-q", str(bundle), "HEAD", "^main"]
        packed = subprocess.run(packing, cwd=self.guest, capture_output=True, text=True)
        if packed.returncode:
            return Ran(("pull",), 1, "", "the commits could not be packed in the guest", 0.0)
        try:
            commits.take_bundle(self.base / "host/copied", bundle, branch)
        except EngineError as error:
            return Ran(("pull",), 1, "", f"{error.brief}\n{error.details}", 0.0)
        return Ran(("pull",), 0, f"1 commit on {branch}\n", "", 0.0)


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    """The traps were set, and the proper commit was pulled."""
    variables = {f"SANDBOX_{name}_DIR": str(tmp_path / name) for name in ("STATE", "RUNTIME", "CONFIG", "CACHE")}
    trial = Trial(GitRoom(tmp_path, variables), Stage(tmp_path), tmp_path / "host/project", tmp_path / "host/outside")
    write_files(trial.project, file_text("", loose=False))
    subprocess.run(["git", "clone", "-q", str(trial.beside / "copied"), str(tmp_path / "guest")], check=True)
    script = "\n".join([tools._AS_ROOT, tools._setting("a proper commit", tools._GOOD)])
    trial.notes |= {"tools": "", "not set": trial.root("sh -s", stdin=script).ok().out}
    assert trial.call("pull", "--branch", "pulled").code == 0
    return trial


def test_the_host_s_git_refuses_the_trees_and_takes_the_proper_one(trial: Trial) -> None:
    assert list(tools.commits(trial)) == []
    tree = ["git", "ls-tree", "--name-only", "pulled"]
    names = subprocess.run(tree, cwd=trial.beside / "copied", capture_output=True, text=True, check=True).stdout
    assert names == "committed.txt\n"


def test_a_pull_without_the_check_is_seen(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "_CHECKED", [])
    assert [text for text in tools.commits(trial) if "became a branch" in text] == [
        f"the commit {name}, with a tree that no git makes, became a branch" for name in ("dotgit", "dotdot")
    ]


def test_a_pull_that_failed_otherwise_is_seen(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "take_bundle", lambda *given: (_ for _ in ()).throw(EngineError("no space left")))
    said = list(tools.commits(trial))
    assert len(said) == 2 and all("did not refuse" in text and "no space left" in text for text in said)


def test_a_commit_that_could_not_be_made_or_packed_is_seen(trial: Trial) -> None:
    (trial.room.base / "guest/.git/refs/heads/dotgit.lock").touch()
    said = list(tools.commits(trial))
    assert any("dotgit could not be made" in text for text in said)


def test_a_proper_commit_that_did_not_come_is_seen(trial: Trial) -> None:
    (trial.beside / "copied/.git/refs/heads/pulled").unlink()
    trial.notes["not set"] = f"{tools.NOT_SET} a proper commit.\n"
    said = list(tools.commits(trial))
    assert len(said) == 2 and "could not be set" in said[0] and "the control" in said[1]
