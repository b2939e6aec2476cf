"""What is searched: one function that takes any bytes, with the inputs that a search begins with.

What a search has found worth keeping is in corpus/NAME.txt, an input a line, in base64.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
LONGEST_KEPT = 1024  # bytes of an input in the corpus


@dataclass(frozen=True)
class Target:
    """`run` raises whatever is wrong with us. A mutation tries the `words`."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()

    def kept(self, name: str) -> list[bytes]:
        """The inputs of the corpus."""
        file = corpus_file(name)
        return [base64.b64decode(line) for line in file.read_text().split()] if file.exists() else []


def corpus_file(name: str) -> Path:
    """Where the inputs of the target `name` are kept."""
    return HERE / "corpus" / f"{name}.txt"
