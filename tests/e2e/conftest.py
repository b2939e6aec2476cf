"""Fixtures of the scenarios."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from world import World


@pytest.fixture
def world(isolated: None, tmp_path: Path) -> Iterator[World]:
    """A world of its own; afterwards nothing of it may be left."""
    world = World(tmp_path)
    yield world
    world.close()
