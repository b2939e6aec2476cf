"""What the tests of processes share: a loop that must be left empty, and waiting for the end of any process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

Runner = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def run_clean() -> Runner:
    """asyncio.run, and nothing may be left: no task, no error that nobody took, no descriptor."""

    async def watched(main: Coroutine[Any, Any, Any]) -> Any:
        loop = asyncio.get_running_loop()
        complaints: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        try:
            return await main
        finally:
            for _ in range(10):  # close() and cancel() take effect in the loop's next rounds
                await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            gc.collect()
            assert not left, f"tasks left: {left}"
            assert not complaints, complaints

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        # What is there already is not ours to look through, twice for each test: it is a large heap.
        gc.collect()
        gc.freeze()
        asyncio.run(asyncio.sleep(0))  # what a first loop opens once and for all
        before = open_descriptors()
        try:
            return asyncio.run(watched(main))
        finally:
            gc.collect()
            assert open_descriptors() <= before, "descriptors left open"

    return run


def open_descriptors() -> set[tuple[str, str]]:
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the listing's own
            found.add((link.name, str(link.readlink())))
    return found


@pytest.fixture
def ended() -> Callable[[int, float], bool]:
    """Wait until a process (not only a child) has ended, at most so many seconds; False when it has not."""

    def wait(pid: int, timeout_s: float) -> bool:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            return bool(select.select([descriptor], [], [], timeout_s)[0])
        finally:
            os.close(descriptor)

    return wait
