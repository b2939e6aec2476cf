"""The guest is told of what the host has changed, by a program that starts when needed and touches nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

from engine.supervisor.host_changes import HostChanges
from engine.workspaces.mount_point import MountPoint
from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel


class Program:
    """The program, as a process of this host."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.asked: list[Any] = []

    async def write_stdin(self, data: bytes) -> None:
        self.asked.append(json.loads(data))
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        assert self.process.stdout is not None
        while data := await self.process.stdout.read(1024):
            yield 1, data


class Channel:
    """Runs commands of the guest here."""

    def __init__(self) -> None:
        self.programs: list[Program] = []
        self.fails = 0

    @contextlib.asynccontextmanager
    async def open_exec(self, argv: Sequence[str], *, stdin: bool) -> AsyncIterator[Program]:
        if self.fails:
            self.fails -= 1
            raise GuestError("no python3")
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, *argv[1:], stdin=pipe, stdout=pipe)
        self.programs.append(Program(process))
        try:
            yield self.programs[-1]
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def of(channel: Channel, log: list[str] | None = None) -> HostChanges:
    changes = HostChanges((log if log is not None else []).append)
    changes.channel = cast("GuestChannel", channel)
    return changes


def test_one_program_is_told_of_all_and_touches_nothing_that_is_no_live_mount(tmp_path: Path) -> None:
    file, directory = tmp_path / "file", tmp_path / "directory"
    file.write_text("x")
    directory.mkdir()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    before = [(path, path.lstat()) for path in (file, directory, tmp_path / "link", tmp_path)]

    async def body() -> None:
        channel = Channel()
        changes = of(channel)
        tell = changes.of(MountPoint("/src", str(tmp_path), False))
        assert tell is not None
        await tell(["file", "directory", "link", "fifo", "", "gone"])
        await tell(["directory/x"])
        (program,) = channel.programs
        top = str(tmp_path)
        first = [f"{top}/{name}" for name in ("file", "directory", "link", "fifo")]
        assert program.asked == [[top, [*first, top, f"{top}/gone"]], [top, [f"{top}/directory/x"]]]
        await changes.close()
        assert program.process.returncode is not None
        await tell(["file"])
        assert len(channel.programs) == 1, "nobody is told any more"

    asyncio.run(body())
    assert [(path, path.lstat()) for path, _ in before] == before


def test_a_single_file_has_a_name_of_its_own_there_and_a_read_only_mount_hears_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        channel = Channel()
        changes = of(channel)
        tell = changes.of(MountPoint("/src/a.toml", str(tmp_path / "b.toml"), False, is_file=True))
        assert tell is not None and changes.of(MountPoint("/src", "/w", True)) is None
        await tell(["a.toml", ""])
        target = str(tmp_path / "b.toml")
        assert channel.programs[0].asked == [[target, [target]]]
        await changes.close()

    asyncio.run(body())


def test_a_guest_in_which_it_does_not_run_is_asked_again_the_next_time(tmp_path: Path) -> None:
    async def body() -> None:
        channel, log = Channel(), list[str]()
        changes = of(channel, log)
        channel.fails = 1
        await changes.tell(str(tmp_path), [str(tmp_path)])
        assert log == ["the guest was not told of changed files: no python3"]
        await changes.tell(str(tmp_path), [str(tmp_path)])
        channel.programs[0].process.kill()
        await changes.tell(str(tmp_path), [str(tmp_path)])
        assert len(log) == 2 and "has ended" in log[1]
        await changes.tell(str(tmp_path), [str(tmp_path)])
        assert len(log) == 2 and len(channel.programs) == 2
        await changes.close()

    asyncio.run(body())
