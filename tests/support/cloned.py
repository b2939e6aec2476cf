"""A clone without a machine: a real repository, its base, and a directory that stands for the guest's copy."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_guest import Answer, Asked, FakeGuest

from engine.clones import changes as changes_module
from engine.clones import in_guest, into_guest
from engine.clones import putting as putting_module
from engine.clones.applying import PREFIX
from engine.clones.base import TAR, Base, make_base
from engine.clones.changes import Changes, read_changes
from engine.clones.syncing import Ways
from engine.lifecycle.syncing import CloneSync, InConflict, Synced
from engine.workspaces.clone_point import ClonePoint
from vmm.channel.errors import GuestError

SETTINGS = ("user.name=x", "user.email=x@example.com", "init.defaultBranch=main", "safe.directory=*")
GIT = ["git", *(word for setting in SETTINGS for word in ("-c", setting))]


class Cloned:
    """`host` is the directory of this host, `guest` the copy of it; `base` is made by `clone`."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host, self.guest, self.directory = tmp_path / "host", tmp_path / "guest", tmp_path / "base"
        self.blobs = tmp_path / "blobs"
        self.host.mkdir()
        self.local: tuple[str, ...] = ()
        self.hide: tuple[str, ...] = ()
        self.run: Callable[[Asked], Answer | GuestError] = run_in_process  # what answers for the guest
        monkeypatch.setattr(changes_module, "STATE", str(tmp_path / "state"))
        monkeypatch.setattr(putting_module, "STATE", str(tmp_path / "state"))

    @property
    def point(self) -> ClonePoint:
        return ClonePoint(str(self.host), str(self.guest))

    def git(self, *words: str, where: Path | None = None) -> str:
        ran = subprocess.run([*GIT, *words], cwd=where or self.host, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def write(self, **files: str) -> None:
        write(self.host, files)

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", "x")

    def clone(self, *leave_out: str) -> None:
        make_base(ClonePoint(str(self.host), str(self.guest), leave_out), self.directory)
        self.guest.mkdir()
        with tarfile.open(self.directory / TAR) as tar:
            tar.extractall(self.guest)

    def changes(self) -> Changes:
        async def ask() -> Changes:
            async with FakeGuest() as guest:
                guest.answer("", run_here)
                return await read_changes(guest, str(self.guest), Base.load(self.directory), self.blobs)

        return asyncio.run(ask())

    def sync(self, *paths: str, ways: Ways = "both", dry_run: bool = False) -> dict[str, str]:
        """What has become of each file: both sides looked at, and, unless something is in conflict, the plan done."""

        async def ask() -> Synced:
            async with FakeGuest() as guest:
                guest.answer("", self.run)
                point = ClonePoint(str(self.host), str(self.guest), self.local, self.hide)
                with CloneSync(guest, point, self.directory, self.blobs) as work:
                    await work.look(paths, ways)
                    if work.synced.conflicts and not dry_run:
                        raise InConflict([work.synced])
                    if not dry_run:
                        await work.do()
                    return work.synced

        return {one.path: one.action for one in asyncio.run(ask()).crossings}

    def found(self) -> dict[str, str]:
        """The changed paths, and what has become of them."""
        return {change.path: change.word for change in self.changes().found}


Tree = dict[str, tuple[bool, bytes | str]]


def tree(root: Path) -> Tree:
    """All files and links, but git's: whether they can be run, and what is in them."""
    found: Tree = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if name.split("/")[0] != ".git" and (path.is_symlink() or path.is_file()):
            run = not path.is_symlink() and bool(path.stat().st_mode & 0o100)
            found[name] = (run, str(path.readlink()) if path.is_symlink() else path.read_bytes())
    return found


def same(cloned: Cloned) -> Tree:
    """What both sides have. Nothing is left to do, and nothing lies beside."""
    assert tree(cloned.host) == tree(cloned.guest)
    assert cloned.found() == {} and cloned.sync() == {}
    assert not list(cloned.host.rglob(f"{PREFIX}*")) and not (cloned.directory / "under-way.json").exists()
    return tree(cloned.host)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def run_here(asked: Asked) -> Answer:
    """The guest's command on this host, whose directory stands for the guest's."""
    done = subprocess.run(asked.argv, input=bytes(asked.stdin), capture_output=True)
    return Answer(done.returncode, done.stdout, done.stderr)


def run_in_process(asked: Asked) -> Answer:
    """As `run_here`, in this process: an interpreter takes longer to start than all the rest."""
    if asked.argv[0] != "python3":
        return run_here(asked)
    (module,) = [one for one in (in_guest, into_guest) if Path(one.__file__).read_text() == asked.argv[3]]
    out = io.BytesIO()
    printed = io.TextIOWrapper(out, write_through=True)  # which closes `out` when nobody has it any more
    before, handler = Path.cwd(), signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(asked.stdin))))
        patch.setattr(sys, "stdout", printed)
        try:
            module.main(*asked.argv[4:])
        except Exception as error:
            return Answer(1, out.getvalue(), repr(error).encode())
        finally:
            os.chdir(before)
            signal.signal(signal.SIGTERM, handler)
    return Answer(0, out.getvalue())
