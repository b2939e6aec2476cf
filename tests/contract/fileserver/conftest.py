"""A directory to share with a guest that is none, as whoever runs the tests and as an ordinary user."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_process import STRANGER, Place, copy_code, why_no_stranger


@pytest.fixture(params=["ourselves", "stranger"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """For root: a directory of root served by root, and one of an ordinary user served by that one."""
    yield from make_place(request.param)


@pytest.fixture
def our_place() -> Iterator[Place]:
    """Where it makes no difference who it is."""
    yield from make_place("ourselves")


def make_place(who: str) -> Iterator[Place]:
    if who == "stranger" and os.geteuid() != 0:
        pytest.skip("an ordinary user runs the tests already")
    # tmp_path is for the user of the tests alone
    base = Path(tempfile.mkdtemp(prefix="fs-", dir="/tmp"))
    place = Place(base, STRANGER if who == "stranger" else os.geteuid())
    try:
        if who == "stranger":
            place.code = base / "code"
            copy_code(place.code)
            base.chmod(0o755)
            if reason := why_no_stranger(place):
                pytest.skip(reason)
        place.make()
        yield place
    finally:
        shutil.rmtree(base, ignore_errors=True)
