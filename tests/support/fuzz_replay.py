"""The targets of a search (`make fuzz`), briefly: their seeds, what a search kept, and neighbours of both."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from target import Target

FEWEST = 10  # inputs that a search has kept


def replay(name: str, target: Target) -> None:
    """The seeds, and what a search has kept."""
    kept = target.kept(name)
    assert len(kept) >= FEWEST
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


def try_neighbours(target: Target, examples: int) -> None:
    """So many of them."""

    @settings(max_examples=examples, deadline=None)
    @given(neighbours(target))
    def run(data: bytes) -> None:
        target.run(data)

    run()
