"""Guest memory for the length of a block, as a machine holds it for its life."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from vmm.memory import fill_memory, make_memory


@contextlib.contextmanager
def open_memory(size: int, template: Path | None = None) -> Iterator[int]:
    """The descriptor of `make_memory`, filled from `template`, closed with the block."""
    descriptor = make_memory(size)
    try:
        if template is not None:
            fill_memory(descriptor, size, template)
        yield descriptor
    finally:
        os.close(descriptor)
