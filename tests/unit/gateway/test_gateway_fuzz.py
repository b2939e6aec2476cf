"""The targets of the search in what the gateway reads, briefly (`make fuzz`, tests/fuzz/gateway_targets.py)."""

from __future__ import annotations

import pytest
from fuzz_replay import replay, try_neighbours
from gateway_targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_search_has_kept(name: str) -> None:
    replay(name, TARGETS[name])


@pytest.mark.parametrize("name", TARGETS)
def test_neighbours_of_the_seeds(name: str) -> None:
    """Of HTTP: whatever the guest sends, the server gets the requests that were judged, and nothing else."""
    try_neighbours(TARGETS[name], 150)
