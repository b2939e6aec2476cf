"""The targets of the search in what the rest of this host reads of a guest, briefly (tests/fuzz/guest_targets.py)."""

from __future__ import annotations

import pytest
from fuzz_replay import replay, try_neighbours
from guest_targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_search_has_kept(name: str) -> None:
    replay(name, TARGETS[name])


@pytest.mark.parametrize("name", TARGETS)
def test_neighbours_of_the_seeds(name: str) -> None:
    try_neighbours(TARGETS[name], 150)
