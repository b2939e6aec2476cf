"""What `fork` and `snapshot` say when not all programs of the source stood still: a note, in JSON one of `notes`."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine.cli import json_errors
from engine.cli.group import cli
from engine.lifecycle import fork as forking
from engine.lifecycle import selection, snapshots

WORDS = "not all programs of shop stood still"


class Source:
    """A running sandbox that is written in a moment, with its programs as a test says."""

    all_stood_still = False

    async def write(self, *_: Any) -> forking.Written:
        return forking.Written(0.25, self.all_stood_still)

    async def fork(self, *_: Any) -> forking.Forked:
        written = await self.write()
        return forking.Forked((), written.stood_still_s, 1.0, tuple(written.notes("shop")))

    async def snapshot(self, *_: Any) -> tuple[snapshots.Kept, forking.Written]:
        return snapshots.Kept("tested", None, datetime(2026, 1, 1, tzinfo=UTC), 1 << 20), await self.write()


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    """Signals are as before afterwards."""
    source = Source()
    monkeypatch.setattr(json_errors, "_wanted", False)  # a process notes --json for good
    monkeypatch.setattr(selection, "open_layout", lambda: None)
    monkeypatch.setattr(selection, "choose", lambda layout, name: SimpleNamespace(name="shop"))
    monkeypatch.setattr(forking, "fork", source.fork)
    monkeypatch.setattr(snapshots, "take_snapshot", source.snapshot)
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield source
    for number, handler in kept.items():
        signal.signal(number, handler)


def ran(*argv: str) -> Result:
    result = CliRunner().invoke(cli, argv)
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("argv", [("fork", "shop"), ("snapshot", "tested")])
def test_it_is_a_note_beside_the_result(source: Source, argv: tuple[str, ...]) -> None:
    said = ran(*argv)
    assert f"note: {WORDS}" in said.stderr and WORDS not in said.stdout and said.stderr.count("note:") == 1
    notes = json.loads(ran(*argv, "--json").stdout)["notes"]
    assert len(notes) == 1 and notes[0].startswith(WORDS)


@pytest.mark.parametrize("argv", [("fork", "shop"), ("snapshot", "tested")])
def test_nothing_is_said_where_all_did(source: Source, argv: tuple[str, ...]) -> None:
    source.all_stood_still = True
    assert "note" not in ran(*argv).stderr
    assert json.loads(ran(*argv, "--json").stdout)["notes"] == []
