"""Nobody else reads what a guest left behind: its memory, its disk, its words, and what was written down about it."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from open_memory import open_memory

from engine.cache.store import Store
from engine.errors import EngineError
from engine.files import make_private
from engine.gateway.journal import Journal
from engine.lifecycle.supervised import start_supervisor
from engine.plan.graph import Graph, Node
from engine.plan.made import save_made
from engine.state.configuration import Configuration, Running, save_running
from engine.state.instances import Instance, hold_name, save_instance
from engine.state.layout import Layout
from engine.trust.approvals import save_approval
from engine.trust.unnamed import note_start
from sandboxfile import load
from vmm.console import Console
from vmm.disk import make_disk, make_overlay
from vmm.machine import Machine
from vmm.process import run
from vmm.snapshot import Shape, save_snapshot
from vmm.tools import Tool, Tools

KEY = "ab" * 16
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


def open_to_others(root: Path) -> list[str]:
    """Everything in `root`, and `root`, that another user could enter or read if nothing above it were closed."""
    found = [path for path in (root, *root.rglob("*")) if not path.is_symlink() and path.lstat().st_mode & 0o077]
    return [f"{path.relative_to(root.parent)} {stat.filemode(path.lstat().st_mode)}" for path in found]


class FakeMachine:
    """Saves as QEMU does: by a child process of ours."""

    plugged = ()

    class process:
        returncode = 0

    async def save(self, state: Path) -> None:
        state.touch(mode=0o600)

    async def quit(self) -> None: ...


def toucher(name: str) -> Tool:
    """A tool that makes the last of its arguments, with the mode that its umask leaves."""
    program = "import sys; open(sys.argv[-1], 'a').close()"
    python = str(Path(sys.executable).resolve())  # a jail lets a program read what belongs to itself alone
    return Tool(name, (python, "-I", "-S", "-c", program), {}, "1", "system", Path(python))


async def fill(directory: Path) -> None:
    tools = cast(Tools, type("Fake", (), {"mkfs_ext4": toucher("mkfs"), "qemu_img": toucher("qemu-img")}))
    await make_disk(tools, directory / "disk.raw", MIB)
    await make_overlay(tools, directory / "disk.qcow2", directory / "disk.raw", "raw", relative=True)
    Journal(directory / "journal.jsonl").close()
    await print_to(directory / "console.log")
    with open_memory(MIB) as memory:
        await save_snapshot(cast(Machine, FakeMachine()), memory, Shape("tcg", 2, MIB, "10.0.13"), directory)


async def print_to(log: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(b"a word of the guest\n")
        await Console(ours, log).read()


def test_a_build_and_a_sandbox(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "Sandboxfile.yaml").write_text('version: "1"\nname: shop\n')
    loaded = load(tmp_path / "Sandboxfile.yaml")

    async def act() -> None:
        async with Store(layout).build("booted", KEY, on_wait=print) as build:
            await fill(build.directory)
        paths = layout.instance("shop")
        with pytest.raises(InterruptedError):  # so that it ends
            async with start_supervisor(layout, paths):
                make_private(paths.directory)
                await print_to(paths.console_log)
                Journal(paths.journal).close()
                raise InterruptedError

    asyncio.run(act())
    node = Node("booted", "booted", "x", KEY)
    save_made(layout.project_plan(tmp_path), Graph([node]), ["booted"])
    save_instance(layout, Instance("shop", str(tmp_path), "f", "0", "2026-01-01T00:00:00+00:00", "running"))
    save_running(layout, "shop", Running(Configuration({}, (), {}, {}), (), ""))
    save_approval(layout, loaded.path, ())
    note_start(layout, loaded)
    with hold_name(layout, "shop"):
        pass
    names = {path.name for root in (layout.cache, layout.state) for path in root.rglob("*")}
    assert names >= {"ram", "disk.qcow2", "disk.raw", "meta.json", "console.log", "journal.jsonl", "entry.json"}
    assert names >= {"complete", "plan.json", "seen.json", "instance.json", "shop.lock", "trust"}
    for root in (layout.cache, layout.state, layout.runtime):
        assert open_to_others(root) == []


def test_what_a_child_makes(tmp_path: Path) -> None:
    made = tmp_path / "made"
    asyncio.run(run([sys.executable, "-c", f"open({str(made)!r}, 'w')"], timeout_s=30, umask=0o077))
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert os.umask(0o022) == 0o022


@pytest.mark.parametrize("root", ["cache", "state"])
@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o777])
def test_an_open_root_of_ours_is_closed(layout: Layout, root: str, mode: int) -> None:
    directory: Path = getattr(layout, root)
    (directory / "old").mkdir(mode=0o755)
    directory.chmod(mode)
    layout.prepare()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700 and (directory / "old").is_dir()


@pytest.mark.parametrize("root", ["cache", "state"])
def test_a_root_may_be_a_link_to_another_disk(layout: Layout, root: str, tmp_path: Path) -> None:
    directory: Path = getattr(layout, root)
    directory.rename(tmp_path / "elsewhere")
    directory.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o755)
    layout.prepare()
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o700


@pytest.mark.parametrize("by_a_link", [False, True])
@pytest.mark.parametrize("root", ["cache", "state"])
def test_a_root_of_somebody_else_is_refused(
    layout: Layout, root: str, by_a_link: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory: Path = getattr(layout, root)
    if by_a_link:
        directory.rename(tmp_path / "theirs")
        directory.symlink_to(tmp_path / "theirs")
    seen = Path.stat

    def theirs(self: Path, **options: Any) -> os.stat_result:
        found = seen(self, **options)
        return os.stat_result((*found[:4], found.st_uid + 1, *found[5:])) if self == directory else found

    monkeypatch.setattr(Path, "stat", theirs)
    with pytest.raises(EngineError, match="belongs to somebody else") as caught:
        layout.prepare()
    assert f"set SANDBOX_{root.upper()}_DIR to a directory of your own" in str(caught.value.hint)
    assert ("through the link" in caught.value.brief) == by_a_link


def test_a_file_system_without_modes_is_refused(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    layout.cache.chmod(0o755)
    monkeypatch.setattr(Path, "chmod", lambda self, mode: None)
    with pytest.raises(EngineError, match="its file system does not let us change that"):
        layout.prepare()
