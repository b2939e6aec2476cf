"""One builder per entry, whole or not there, and nothing left behind, whatever happens to whom."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from filelock import FileLock

from engine.cache.store import Build, Store
from engine.errors import EngineError
from engine.state.layout import Layout

KEY, PARENT = "ab" * 16, "cd" * 16
BUILDER = """
import asyncio, os, sys
from engine.state.layout import Layout
from engine.cache.store import Store

async def main():
    async with Store(Layout.from_environment(os.environ)).build("disk", sys.argv[1], on_wait=print) as build:
        assert build is not None
        (build.directory / "half").write_text("half")
        print("building", flush=True)
        sys.stdin.read()

asyncio.run(main())
"""


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


@pytest.fixture
def store(layout: Layout) -> Store:
    return Store(layout)


def never_wait(message: str) -> None:
    raise AssertionError(message)


async def fill(store: Store, key: str = KEY, text: str = "x", kind: str = "disk", **options: object) -> Build | None:
    async with store.build(kind, key, on_wait=never_wait, **options) as build:  # type: ignore[arg-type]
        if build is not None:
            (build.directory / "file").write_text(text)
    return build


def leftovers(layout: Layout) -> list[str]:
    return [path.name for path in (*layout.temporary.glob("*"), *layout.runtime.glob(".build-*"))]


def test_an_entry_is_there_after_its_build_and_not_before(store: Store, layout: Layout) -> None:
    async def scenario() -> None:
        async with store.build("disk", KEY, on_wait=never_wait, inputs={"size": "4"}) as build:
            assert build is not None
            (build.directory / "file").write_text("x")
            assert build.directory.parent.parent == layout.cache  # as deep as an entry
            assert build.sockets.directory.stat().st_mode & 0o777 == 0o700
            assert store.find("disk", KEY) is None

    asyncio.run(scenario())
    found = store.find("disk", KEY)
    assert found == layout.entry("disk", KEY)
    assert (found / "file").read_text() == "x"
    entry = store.entry("disk", KEY)
    assert entry is not None
    assert entry.inputs == {"size": "4"}
    assert entry.size > 0
    assert [entry.key for entry in store.entries()] == [KEY]
    assert leftovers(layout) == []


def test_a_second_build_finds_the_first(store: Store) -> None:
    async def scenario() -> Build | None:
        await fill(store)
        return await fill(store, text="other")

    assert asyncio.run(scenario()) is None
    assert (store.layout.entry("disk", KEY) / "file").read_text() == "x"


@pytest.mark.parametrize("failure", [ValueError("no"), asyncio.CancelledError(), KeyboardInterrupt()])
def test_a_failed_build_leaves_nothing(store: Store, layout: Layout, failure: BaseException) -> None:
    async def scenario() -> None:
        with pytest.raises(type(failure)):
            async with store.build("disk", KEY, on_wait=never_wait) as build:
                assert build is not None
                (build.directory / "file").write_text("x")
                raise failure
        assert leftovers(layout) == []
        assert store.find("disk", KEY) is None
        await fill(store)  # and the lock is free

    asyncio.run(scenario())


def test_a_cancelled_task_leaves_nothing(store: Store, layout: Layout) -> None:
    async def scenario() -> None:
        inside = asyncio.Event()

        async def build() -> None:
            async with store.build("disk", KEY, on_wait=never_wait):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(build())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert leftovers(layout) == []

    asyncio.run(scenario())


def test_two_tasks_build_once_and_the_second_says_for_whom_it_waits(store: Store) -> None:
    async def scenario() -> None:
        inside, go, waits, messages = asyncio.Event(), asyncio.Event(), asyncio.Event(), []

        async def first() -> None:
            async with store.build("image", KEY, on_wait=never_wait) as build:
                assert build is not None
                inside.set()
                await go.wait()
                (build.directory / "file").write_text("first")

        def on_wait(message: str) -> None:
            messages.append(message)
            waits.set()

        async def second() -> Path | None:
            await inside.wait()
            async with store.build("image", KEY, on_wait=on_wait) as build:
                assert build is None
                return store.find("image", KEY)

        one, two = asyncio.create_task(first()), asyncio.create_task(second())
        await waits.wait()
        go.set()
        await one
        assert await two == store.find("image", KEY)
        assert len(messages) == 1
        prefix, since = messages[0].split(" since ")
        assert prefix == f"image {KEY[:6]} is being built by process {os.getpid()}"
        assert datetime.strptime(since, "%H:%M:%S")

    asyncio.run(scenario())


@pytest.mark.parametrize("named", [True, False])
def test_who_has_just_taken_the_lock_is_waited_for_by_name(store: Store, layout: Layout, named: bool) -> None:
    """Two commands that start together: the second looks before the first has written its name."""

    async def scenario() -> None:
        said = asyncio.Event()
        messages: list[str] = []

        def on_wait(message: str) -> None:
            messages.append(message)
            said.set()

        async def second() -> None:
            async with store.build("image", KEY, on_wait=on_wait) as build:
                assert build is not None

        owner = layout.entry_lock_owner("image", KEY)
        lock = FileLock(layout.entry_lock("image", KEY), mode=0o600)
        owner.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        two = asyncio.create_task(second())
        await asyncio.sleep(0)
        assert messages == []
        if named:
            owner.write_text(json.dumps({"pid": 77, "since": time.time()}))
        await said.wait()
        lock.release()
        await two
        assert messages[0].startswith(
            f"image {KEY[:6]} is being built by {'process 77 since' if named else 'another process'}"
        )

    asyncio.run(scenario())


def other_process(then: Callable[[subprocess.Popen[str]], None]) -> None:
    """`then` runs while another process is in the middle of building KEY."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUILDER, KEY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "building\n"
            then(process)
        finally:
            process.kill()


def test_another_process_is_waited_for(store: Store) -> None:
    async def scenario(process: subprocess.Popen[str]) -> None:
        messages: list[str] = []

        def on_wait(message: str) -> None:
            messages.append(message)
            assert process.stdin is not None
            process.stdin.close()  # lets it finish

        async with store.build("disk", KEY, on_wait=on_wait) as build:
            assert build is None
            half = store.layout.entry("disk", KEY) / "half"
            assert half.exists()
        assert f"process {process.pid} since" in messages[0]

    other_process(lambda process: asyncio.run(scenario(process)))


def test_what_a_killed_process_leaves_is_swept_but_not_what_runs(store: Store, layout: Layout) -> None:
    def kill(process: subprocess.Popen[str]) -> None:
        assert store.sweep() == 0
        assert len(leftovers(layout)) == 2  # the entry in the making, and its sockets
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(leftovers(layout)) == 2
        assert store.sweep() == 1
        assert leftovers(layout) == []
        assert store.find("disk", KEY) is None

    other_process(kill)


def test_a_build_removes_what_a_killed_one_of_the_same_key_left(store: Store, layout: Layout) -> None:
    layout.temporary_entry("disk", KEY, "dead").mkdir(parents=True)
    asyncio.run(fill(store))
    assert leftovers(layout) == []


def test_an_entry_without_marker_is_none_and_is_replaced(store: Store, layout: Layout) -> None:
    asyncio.run(fill(store, text="lost in a power cut"))
    layout.entry_marker(layout.entry("disk", KEY)).unlink()
    assert store.find("disk", KEY) is None
    assert store.entries() == []
    asyncio.run(fill(store, text="again"))
    assert (layout.entry("disk", KEY) / "file").read_text() == "again"
    assert leftovers(layout) == []


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"kind": 1}'])
def test_an_entry_with_a_damaged_record_is_none(store: Store, layout: Layout, damage: str) -> None:
    asyncio.run(fill(store))
    layout.entry_record(layout.entry("disk", KEY)).write_text(damage)
    assert store.find("disk", KEY) is None


def test_a_child_counts_only_with_the_very_parent_it_continues(store: Store) -> None:
    async def scenario() -> None:
        await fill(store, PARENT)
        await fill(store, KEY, parents=[("disk", PARENT)])
        assert store.find("disk", KEY)
        store.remove("disk", PARENT)
        assert store.find("disk", KEY) is None
        await fill(store, PARENT)  # the same key, but another build of it
        entry = store.entry("disk", KEY)
        assert entry is not None
        assert store.broken_parent(entry) == f"disk/{PARENT}"
        assert store.find("disk", KEY) is None
        build = await fill(store, KEY, text="new", parents=[("disk", PARENT)])
        assert build is not None
        found = store.find("disk", KEY)
        assert found is not None
        assert (found / "file").read_text() == "new"

    asyncio.run(scenario())


def test_a_grandchild_falls_with_its_grandparent(store: Store) -> None:
    async def scenario() -> None:
        middle = "ef" * 16
        await fill(store, PARENT)
        await fill(store, middle, parents=[("disk", PARENT)])
        await fill(store, KEY, parents=[("disk", middle)])
        store.remove("disk", PARENT)
        assert store.find("disk", KEY) is None

    asyncio.run(scenario())


def test_a_parent_that_is_gone_is_said(store: Store) -> None:
    with pytest.raises(EngineError, match="disk cdcdcdcd has disappeared"):
        asyncio.run(fill(store, parents=[("disk", PARENT)]))


def test_a_full_disk_is_explained(store: Store, layout: Layout) -> None:
    async def scenario() -> None:
        async with store.build("disk", KEY, on_wait=never_wait) as build:
            assert build is not None
            (build.directory / "file").write_bytes(b"x" * 4_000_000)
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError as error:
                raise RuntimeError("another package's words") from error

    with pytest.raises(EngineError, match=f"no space left in {layout.cache}") as caught:
        asyncio.run(scenario())
    assert "more than" in str(caught.value.details)
    assert "SANDBOX_CACHE_DIR" in str(caught.value.hint)
    assert leftovers(layout) == []


def test_needed_space_is_asked_for_first(store: Store) -> None:
    with pytest.raises(EngineError, match="no space left") as caught:
        asyncio.run(fill(store, needed_bytes=10**18))
    assert "about 1,000,000,000,000 MB needed" in str(caught.value.details)


def test_finding_notes_the_use(store: Store, layout: Layout) -> None:
    asyncio.run(fill(store))
    marker = layout.entry_marker(layout.entry("disk", KEY))
    os.utime(marker, (1000, 1000))
    assert store.entries()[0].last_used == datetime.fromtimestamp(1000, UTC)  # looking is not using
    store.find("disk", KEY)
    assert store.entries()[0].last_used > datetime(2020, 1, 1, tzinfo=UTC)


def test_remove(store: Store, layout: Layout) -> None:
    asyncio.run(fill(store))
    assert store.remove("disk", KEY)
    assert not store.remove("disk", KEY)
    assert leftovers(layout) == []


def test_what_is_being_built_is_not_removed(store: Store) -> None:
    async def scenario() -> None:
        async with store.build("disk", KEY, on_wait=never_wait):
            with pytest.raises(EngineError, match="is being built"):
                store.remove("disk", KEY)

    asyncio.run(scenario())


def test_sparse_files_count_what_they_take(store: Store) -> None:
    async def scenario() -> None:
        async with store.build("disk", KEY, on_wait=never_wait) as build:
            assert build is not None
            with (build.directory / "ram").open("wb") as file:
                file.truncate(1 << 40)

    asyncio.run(scenario())
    assert store.entries()[0].size < 1 << 20


def test_many_files_are_sealed_too(store: Store) -> None:
    async def scenario() -> None:
        async with store.build("toolchain", KEY, on_wait=never_wait) as build:
            assert build is not None
            for number in range(100):
                (build.directory / str(number)).touch()
            (build.directory / "link").symlink_to("/nowhere")

    asyncio.run(scenario())
    assert store.find("toolchain", KEY)


def test_directories_without_write_permission_are_removed(store: Store, layout: Layout) -> None:
    async def scenario() -> None:
        with pytest.raises(ValueError, match="no"):
            async with store.build("toolchain", KEY, on_wait=never_wait) as build:
                assert build is not None
                (build.directory / "usr" / "share").mkdir(parents=True)
                (build.directory / "usr" / "share" / "file").touch()
                (build.directory / "usr" / "share").chmod(0o555)
                (build.directory / "usr").chmod(0)  # stops an ordinary user; root passes anyway
                raise ValueError("no")

    asyncio.run(scenario())
    assert leftovers(layout) == []


def test_a_plan_reads_each_entry_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not each of its ancestors for each: 11,417 files for 60 steps."""
    keys = [f"{number:032x}" for number in range(60)]

    async def main() -> None:
        for number, key in enumerate(keys):
            await fill(store, key, parents=[("disk", keys[number - 1])] if number else [])

    asyncio.run(main())
    reads: list[Path] = []
    read = store._read
    monkeypatch.setattr(store, "_read", lambda path: reads.append(path) or read(path))
    with store.one_look():
        assert all(store.find("disk", key) for key in keys)
    assert sorted(reads) == sorted(set(reads)) and len(reads) == len(keys)

    # The next look is a look.
    shutil.rmtree(store.layout.entry("disk", keys[0]))
    assert store.find("disk", keys[-1]) is None
    with store.one_look():
        entry = store.entry("disk", keys[-1])
        assert entry is not None and store.broken_parent(entry) == f"disk/{keys[0]}"
