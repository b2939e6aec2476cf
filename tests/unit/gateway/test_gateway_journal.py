from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.gateway.errors import GatewayError
from engine.gateway.journal import Journal, JournalLine


def test_a_line_has_these_fields(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", sandbox="shop") as journal:
        journal.write(
            JournalLine(port=80, verdict="allowed", protocol="http", host="a.example", method="GET", path="/x")
        )
        journal.write(JournalLine(port=443, verdict="refused", protocol="tls", reason="no endpoint"))
        first, second = (json.loads(line) for line in journal.path.read_text().splitlines())  # before it is closed
    assert list(first) == [
        *("time", "sandbox", "verdict", "protocol", "host", "port", "method", "path", "rule", "place", "how", "reason"),
        *("bytes_in", "bytes_out", "duration_ms"),
    ]
    assert "method" not in second and second["host"] is None and second["sandbox"] == "shop"
    assert first["time"][10] == "T" and first["time"][-5] == "." and first["time"].endswith("Z")


def test_it_appends_and_belongs_to_its_owner(tmp_path: Path) -> None:
    for _ in range(2):
        with Journal(tmp_path / "journal") as journal:
            journal.write(JournalLine(port=80))
    assert len(journal.path.read_text().splitlines()) == 2
    assert journal.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_it_is_bounded(tmp_path: Path, keep: int) -> None:
    with Journal(tmp_path / "journal", max_bytes=2000, keep=keep) as journal:
        for number in range(100):
            journal.write(JournalLine(port=number, host="a.example"))
    files = sorted(tmp_path.glob("journal*"))
    assert [path.name for path in files] == ["journal", "journal.1", "journal.2"][: keep + 1]
    assert all(path.stat().st_size <= 2000 for path in files)
    ports = [json.loads(line)["port"] for path in reversed(files) for line in path.read_text().splitlines()]
    assert ports == list(range(100 - len(ports), 100)) and ports


def test_what_the_guest_sends_stays_on_one_bounded_line(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        journal.write(JournalLine(port=80, protocol="http", host="a\nb\x1b[31m", path="/" * 100_000))
    (line,) = journal.path.read_bytes().splitlines()
    assert len(line) < 4096 and b"\x1b" not in line


def test_a_journal_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match="journal"):
        Journal(tmp_path / "missing" / "journal")


def test_a_line_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.close()
    journal.path.unlink()
    journal.path.mkdir()
    journal.write(JournalLine(port=80))
    journal.path.rmdir()
    journal.write(JournalLine(port=80))
    journal.close()
    gap, line = (json.loads(text) for text in journal.path.read_text().splitlines())
    assert gap["reason"] == "lines that could not be written before this one: 1" and line["port"] == 80
