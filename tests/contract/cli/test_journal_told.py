"""`journal --summary` and `--suggest` of a journal as a gateway writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_world import CommandLine, FakeSandbox

from engine import api
from engine.cli.showing import follow
from engine.gateway.journal import Journal, JournalLine
from engine.state.layout import Layout

FILE = """version: "1"
name: shop
endpoints:
  # everything, until we know better
  - "*.example.com"   # wide
"""
BY_FILE = {"rule": "endpoints[0]", "place": "Sandboxfile.yaml:5"}


@pytest.fixture
def told(sandbox: CommandLine, layout: Layout, fake: FakeSandbox) -> Path:
    """The journal of `shop` after a run."""
    sandbox.file(FILE)
    path = layout.instance("shop").journal
    with Journal(path, max_bytes=4096, keep=9, sandbox="shop") as journal:

        def write(host: str, verdict: Any = "allowed", **fields: Any) -> None:
            entry = JournalLine(port=443, verdict=verdict, protocol="tls", host=host, how="splice", bytes_in=2048)
            for name, value in fields.items():
                setattr(entry, name, value)
            journal.write(entry)

        for number in range(12):
            write("api.example.com", method="GET", path=f"/v1/items/{number}", how="intercept", **BY_FILE)
        write("api.example.com", method="POST", path="/v1/orders", how="intercept", bytes_out=1 << 20, **BY_FILE)
        write("cdn.example.com", **BY_FILE)
        write("new.example.org", rule="sandbox allow new.example.org")
        write("evil.example.net", "refused", reason="no endpoint names evil.example.net:443", how="refuse")
        write("evil\x1b[31m.example", "refused", reason="is not a host name", how="refuse")
        write("new.example.org", "changed", rule="sandbox allow new.example.org", reason="allowed for 60 s")
    return path


def test_a_summary(sandbox: CommandLine, told: Path) -> None:
    assert len(list(told.parent.glob("journal.jsonl.*"))) >= 1, "it has been rotated"
    lines = sandbox("journal", "--summary", COLUMNS="100").out.splitlines()
    words = [line.split()[0] for line in lines if line]
    assert words[:-2] == ["HOST", "api.example.com", "GET", "POST", "cdn.example.com", "new.example.org", "REFUSED"]
    assert set(words[-2:]) == {"evil.example", "evil.example.net"}
    assert "  GET /v1/items/* (12)" in lines and "  POST /v1/orders (1)" in lines
    assert lines[1].split()[1:6] == ["13", "-", "26.0", "KiB", "1.0"] and "\x1b" not in "".join(lines)
    assert all(len(line) <= 100 for line in lines)
    assert max(map(len, sandbox("journal", "--summary", COLUMNS="40").out.splitlines())) == 40
    only = sandbox("journal", "--summary", "--refused").out
    assert only.startswith("REFUSED") and "cdn" not in only


def test_a_summary_for_programs(sandbox: CommandLine, told: Path) -> None:
    found = json.loads(sandbox("journal", "--summary", "--json").out)
    assert (found["version"], found["sandbox"]) == (1, "shop")
    first = found["hosts"][0]
    assert (first["host"], first["allowed"], first["refused"], first["bytes_out"]) == (
        *("api.example.com", 13, 0),
        1 << 20,
    )
    assert {"method": "GET", "path": "/v1/items/*", "count": 12} in first["requests"]
    assert [row["host"] for row in found["hosts"] if row["refused"]] == ["evil.example.net", "evil\x1b[31m.example"]


def test_a_suggestion_and_what_is_saved_of_it(sandbox: CommandLine, told: Path) -> None:
    ran = sandbox("journal", "--suggest")
    assert ran.code == 0 and ran.out.splitlines()[:7] == [
        "endpoints:",
        "  - {host: api.example.com, methods: [GET], paths: [/v1/items/*]}  # 12 times",
        "  - {host: api.example.com, methods: [POST], paths: [/v1/orders]}  # 1 time",
        "  - cdn.example.com  # 1 time; what was asked was not looked at",
        "  - new.example.org  # 1 time; what was asked was not looked at",
        "  # refused:",
        ran.out.splitlines()[6],
    ], ran
    assert ran.out.splitlines()[6].startswith("  # - evil.example.net  # 1 time, last 2")
    assert len(ran.out.splitlines()) == 7, "what is no name cannot be suggested"
    assert api.suggest("shop").render() == ran.out
    saved = sandbox("journal", "--suggest", "--save")
    assert saved.out == "Sandboxfile.yaml:6: added endpoints: new.example.org\n", "the rest is allowed already"
    assert (sandbox.project / "Sandboxfile.yaml").read_text() == f'{FILE}  - "new.example.org"\n'
    assert sandbox("journal", "--suggest", "--save").out == "Sandboxfile.yaml allows all that this run needed\n"
    found = json.loads(sandbox("journal", "--suggest", "--json").out)
    assert [row["value"] for row in found["endpoints"]][2:] == ["cdn.example.com", "new.example.org"]
    assert [row["value"] for row in found["refused"]] == ["evil.example.net"] and found["added"] is None
    # The suggestion in the place of what was there: the file is valid, and it is enough.
    sandbox.file('version: "1"\nname: shop\n' + ran.out)
    assert sandbox("validate").code == 0
    assert sandbox("journal", "--suggest", "--save").out == "Sandboxfile.yaml allows all that this run needed\n"


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("argv", [("-f", "--summary"), ("--summary", "--suggest"), ("--save",)], ids=" ".join)
def test_one_thing_at_a_time(sandbox: CommandLine, argv: tuple[str, ...]) -> None:
    assert sandbox("journal", *argv).code == 2


def test_an_empty_journal(sandbox: CommandLine, fake: FakeSandbox) -> None:
    assert sandbox("journal", "--summary").out == ""
    assert sandbox("journal", "--suggest").out == "endpoints: []\n"


def test_the_last_lines_before_a_rotation_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway writes a line and begins a new file between our reading and our look whether it is the same."""
    path = tmp_path / "journal"
    path.write_text("one\n")
    real, seen = follow._is_still, []

    def rotate(file: Any, where: Path) -> bool:
        if path.exists():
            with path.open("a") as writer:
                writer.write("two\n")
            path.rename(tmp_path / "journal.1")
        return real(file, where)

    monkeypatch.setattr(follow, "_is_still", rotate)
    follow.print_file(path, lambda line: seen.append(line), follow=True)
    assert seen == ["one", "two"]
