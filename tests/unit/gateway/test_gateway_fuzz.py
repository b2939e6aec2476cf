"""The targets of the search (`make fuzz`), briefly: their seeds, what a search kept, and neighbours of both."""

from __future__ import annotations

import pytest
from gateway_targets import TARGETS, Target
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_search_has_kept(name: str) -> None:
    target = TARGETS[name]
    kept = target.kept(name)
    assert len(kept) >= 10
    for data in (*target.seeds, *kept):
        target.run(data)


@st.composite
def neighbours(draw: st.DrawFn, target: Target) -> bytes:
    """A seed with a few pieces of it, or of another, or of a target's words, somewhere else."""
    data = bytearray(draw(st.sampled_from(target.seeds)))
    for _ in range(draw(st.integers(1, 4))):
        source = draw(st.sampled_from((*target.seeds, *target.words)))
        start, size = draw(st.integers(0, len(source))), draw(st.integers(0, 40))
        at, gone = draw(st.integers(0, len(data))), draw(st.integers(0, 40))
        data[at : at + gone] = source[start : start + size] or draw(st.binary(max_size=4))
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_neighbours_of_the_seeds(name: str) -> None:
    """Of HTTP: whatever the guest sends, the server gets the requests that were judged, and nothing else."""
    target = TARGETS[name]

    @settings(max_examples=150, deadline=None)
    @given(neighbours(target))
    def run(data: bytes) -> None:
        target.run(data)

    run()
