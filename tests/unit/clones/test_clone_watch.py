"""`sync --watch`: which changes are seen, and what is told of a sync that cannot be."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cloned import write
from fake_guest import Answer, FakeGuest

from engine.clones import watcher
from engine.clones.syncing import Crossing
from engine.errors import EngineError
from engine.lifecycle import sync_watch
from engine.lifecycle.sync_watch import directories_of, repeat, watching_here, watching_there
from engine.lifecycle.syncing import InConflict, Synced
from engine.workspaces.clone_point import ClonePoint
from vmm.channel.errors import GuestError

WAIT_S = 60.0


@contextmanager
def in_guest(root: Path, *names: str) -> Iterator[subprocess.Popen[bytes]]:
    """The program as it runs there; it watches already."""
    argv = [sys.executable, "-I", watcher.__file__, str(root)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(names).encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"\n"
        try:
            yield process
        finally:
            process.stdin.close()
            assert process.wait(WAIT_S) == 0, "it ends with its input"


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file is written": lambda root: (root / "a").write_text("b"),
    "a file is made": lambda root: (root / "d/new").write_text("n"),
    "a file is removed": lambda root: (root / "a").unlink(),
    "a file is renamed": lambda root: (root / "a").rename(root / "z"),
    "a mode": lambda root: (root / "a").chmod(0o755),
    "a link": lambda root: (root / "l").symlink_to("a"),
    "in an empty directory": lambda root: (root / "empty/f").write_text("f"),
}


@pytest.mark.parametrize("act", CHANGES.values(), ids=CHANGES)
def test_a_change_is_told(tmp_path: Path, act: Callable[[Path], object]) -> None:
    write(tmp_path, {"a": "a", "d/b": "b"})
    (tmp_path / "empty").mkdir()
    with in_guest(tmp_path, "", "d") as process:
        act(tmp_path)
        assert process.stdout is not None and process.stdout.readline() == b"\n"


def test_a_directory_that_is_new_is_watched_with_those_in_it(tmp_path: Path) -> None:
    watching = watcher.Watcher(str(tmp_path))
    watching.add_all([""])
    (tmp_path / "one/two").mkdir(parents=True)
    assert watching.read() and not watching.read()
    (tmp_path / "one/two/file").write_text("x")
    assert watching.read()
    watching.close()


def test_a_directory_that_is_gone_makes_room_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "MOST_WATCHED", 2)
    root = tmp_path / "root"
    root.mkdir()
    watching = watcher.Watcher(str(root))
    watching.add_all([""])
    for number in range(5):
        (root / f"d{number}").mkdir()
        assert watching.read()
        (root / f"d{number}/file").write_text("x")
        assert watching.read(), number
        (root / f"d{number}/file").unlink()
        (root / f"d{number}").rmdir()
        assert watching.read()
    watching.close()


def test_the_repository_and_what_is_in_no_directory_of_the_copy_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, {"a": "a", ".git/index": "i", "out/x": "x"})
    watching = watcher.Watcher(str(tmp_path))
    watching.add_all(directories_of(["a"]))
    (tmp_path / ".git/index").write_text("j")
    (tmp_path / ".git").chmod(0o700)
    (tmp_path / "out/y").write_text("y")
    assert not watching.read()
    watching.close()


def test_the_directories_of_files() -> None:
    assert directories_of(["a", "b/c/d", "b/e"]) == {"", "b", "b/c"}


def test_on_this_host(tmp_path: Path) -> None:
    async def scenario() -> None:
        changed = asyncio.Event()
        with watching_here(str(tmp_path), [""], changed):
            (tmp_path / "a").write_text("a")
            async with asyncio.timeout(WAIT_S):
                await changed.wait()

    asyncio.run(scenario())


def test_changes_that_do_not_end_are_seen_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a log that something writes all the time."""
    monkeypatch.setattr(watcher, "SETTLE_S", 2 * WAIT_S)
    monkeypatch.setattr(watcher, "MOST_S", 0.01)

    async def scenario() -> None:
        changed = asyncio.Event()
        with watching_here(str(tmp_path), [""], changed):
            async with asyncio.timeout(WAIT_S):
                while not changed.is_set():
                    (tmp_path / "a").write_text("a")
                    await asyncio.sleep(0)

    asyncio.run(scenario())


def test_in_a_guest_whose_program_ends(tmp_path: Path) -> None:
    async def scenario(answer: Answer) -> None:
        changed = asyncio.Event()
        async with FakeGuest() as guest:
            guest.answer("python3", answer)
            task = asyncio.create_task(hold(guest, changed))
            await asyncio.sleep(0)
            guest.die()
            with pytest.raises(GuestError, match="cannot be watched in the guest"):
                await task

    async def hold(guest: FakeGuest, changed: asyncio.Event) -> None:
        async with watching_there(guest, "/w", [""], changed):
            raise AssertionError("it has not begun")

    asyncio.run(scenario(Answer(1)))


def test_each_trouble_is_told_once_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_watch, "REST_S", 0.0)
    point = ClonePoint("/h", "/g")
    conflict = InConflict([Synced(point, (Crossing("a", "changed", "conflict", "both"),))])
    other = InConflict([Synced(point, (Crossing("b", "changed", "conflict", "both"),))])
    done = ("s", [Synced(point, (Crossing("a", "changed", "to copy"),))])
    nothing = ("s", [Synced(point, (Crossing("x", "new", "held back"),))])
    results = iter([done, conflict, conflict, other, nothing, done, conflict])
    told: list[str] = []
    ended: list[GuestError] = []
    changed = asyncio.Event()

    async def once() -> tuple[str, list[Synced]]:
        changed.set()  # somebody is at work all the time
        result = next(results, None)
        if result is None:
            ended.append(GuestError("the sandbox has ended"))
            return nothing
        if isinstance(result, EngineError):
            raise result
        return result

    def warn(error: EngineError) -> None:
        told.append(str(error.details).partition(":")[0])

    async def scenario() -> None:
        tell = lambda sandbox, found: told.append("done")  # noqa: E731
        await repeat(once, changed, tell, warn, lambda: ended[0] if ended else None)

    with pytest.raises(GuestError, match="the sandbox has ended"):
        asyncio.run(scenario())
    assert told == ["done", "a", "b", "done", "a"]


@pytest.mark.parametrize("error", [GuestError("it timed out"), OSError(28, "No space left"), EngineError("busy")])
def test_a_trouble_that_is_no_conflict_ends_nothing_and_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Also where nothing changes any more: what was to be synced still is."""
    monkeypatch.setattr(sync_watch, "REST_S", 0.0)
    monkeypatch.setattr(sync_watch, "AGAIN_S", 0.0)
    done = ("s", [Synced(ClonePoint("/h", "/g"), (Crossing("a", "changed", "to copy"),))])
    results: list[Any] = [error, error, done]
    told: list[str] = []

    async def once() -> tuple[str, list[Synced]]:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[no-any-return]

    def tell(sandbox: str, found: list[Synced]) -> None:
        told.append("done")
        raise KeyError  # the end of the test

    with pytest.raises(KeyError):
        asyncio.run(repeat(once, asyncio.Event(), tell, lambda e: told.append(e.brief), lambda: None))
    assert told == [EngineError.of(error).brief, "done"]


def test_a_guest_that_goes_while_it_is_synced_ends_it() -> None:
    gone: list[GuestError] = []

    async def once() -> tuple[str, list[Synced]]:
        gone.append(GuestError("gone"))
        raise gone[0]

    with pytest.raises(GuestError, match="gone"):
        asyncio.run(repeat(once, asyncio.Event(), lambda *_: None, print, lambda: gone[0] if gone else None))


def test_a_lost_guest_ends_it() -> None:
    async def once() -> tuple[str, list[Synced]]:
        raise AssertionError("it is not asked")

    with pytest.raises(GuestError, match="gone"):
        asyncio.run(repeat(once, asyncio.Event(), lambda *_: None, lambda _: None, lambda: GuestError("gone")))
