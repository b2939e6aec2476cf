"""The probe on this very machine: what it says must have been seen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from foundation_world import processes_with, shared_tools

from engine.build import accelerator
from engine.build.accelerator import AcceleratorError, probe


def test_the_verdict_is_an_accelerator_that_booted_a_guest(tmp_path: Path) -> None:
    verdict = asyncio.run(probe_here(tmp_path))
    *failed, last = verdict.attempts
    assert last.booted and last.accelerator == verdict.accelerator
    assert last.last_line == accelerator.MARKER
    # An accelerator that this host only pretends to have must say why it does not count.
    assert all(not attempt.booted and attempt.result != "booted" for attempt in failed)
    assert processes_with(str(tmp_path)) == []


async def probe_here(directory: Path) -> accelerator.Verdict:
    return await probe(await shared_tools(), directory)


def test_emulation_boots_everywhere(tmp_path: Path) -> None:
    async def run() -> accelerator.Verdict:
        return await probe(await shared_tools(), tmp_path, names=("tcg",))

    assert asyncio.run(run()).accelerator == "tcg"


def test_a_guest_that_does_not_come_up_in_time_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "DEADLINES_S", {"tcg": 0.05})

    async def run() -> None:
        await probe(await shared_tools(), tmp_path, names=("tcg",))

    with pytest.raises(AcceleratorError) as caught:
        asyncio.run(run())
    assert caught.value.details is not None and "no guest was running" in caught.value.details
    assert processes_with(str(tmp_path)) == []
