"""`down` asks the guest for changes of its clones first, and says so where that takes long."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.cli.commands import down
from engine.lifecycle import clones
from engine.lifecycle.clones import Unapplied
from engine.state.layout import Layout


@pytest.mark.parametrize("slow", [True, False])
def test_what_takes_long_is_said(
    slow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = asyncio.Event()

    async def count(layout: Layout, name: str) -> Unapplied:
        if slow:
            await said.wait()
        return Unapplied(2, 1)

    def say(text: str, **options: Any) -> None:
        print(text)
        said.set()

    monkeypatch.setattr(clones, "count_unapplied", count)
    monkeypatch.setattr(down.click, "echo", say)
    monkeypatch.setattr(down, "SILENT_S", 0.01 if slow else 60)
    assert asyncio.run(down._count_unapplied(Layout(tmp_path, tmp_path, tmp_path), "shop")) == Unapplied(2, 1)
    assert capsys.readouterr().out == ("asking shop what is only in its private copy; --yes does not ask\n" * slow)
