"""How many examples the property tests try: few in the default run; HYPOTHESIS_PROFILE=thorough for many."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from engine.cli import json_errors

# Neither deadlines nor a verdict on slowness: on a busy machine an example takes as long as it takes.
settings.register_profile("fast", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("fast"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

SWAP_S = 60.0  # until both have been seen: what was swapped, and what was not


@pytest.fixture(autouse=True)
def no_json_wanted() -> Iterator[None]:
    """A command of one test that was called with --json says nothing of the next one's."""
    yield
    json_errors.note_answered()


@pytest.fixture
def swapping() -> Iterator[Callable[[Path, Path], AbstractContextManager[Callable[[bool], bool]]]]:
    """`with swapping(directory, target) as goes_on`: a thread puts a link to `target` in its place and takes
    it away, all the time, as a guest in a live mount can. `goes_on(found)` is told of each look whether it found the
    directory, and is true until there were twenty looks of both kinds."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # the threads are to meet everywhere
    yield _swapping
    sys.setswitchinterval(interval)


@contextmanager
def _swapping(directory: Path, target: Path) -> Iterator[Callable[[bool], bool]]:
    stop, seen = threading.Event(), {True: 0, False: 0}
    deadline = time.monotonic() + SWAP_S

    def swap() -> None:
        aside = directory.with_name("aside")
        while not stop.is_set():
            directory.rename(aside)
            directory.symlink_to(target)
            directory.unlink()
            aside.rename(directory)

    def goes_on(found: bool) -> bool:
        seen[found] += 1
        assert time.monotonic() < deadline, f"the swaps were not met: {seen}"
        return min(seen.values()) < 20

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield goes_on
    finally:
        stop.set()
        thread.join()
