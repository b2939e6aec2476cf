"""The language and the machine agree on how many mounts there can be."""

from __future__ import annotations

from sandboxfile.sections import mounts
from vmm import spec


def test_the_most_mounts_of_a_file_are_those_of_a_machine() -> None:
    assert mounts.MOST_MOUNTS == spec.MOST_MOUNTS
