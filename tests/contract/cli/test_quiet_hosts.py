"""`journal --summary` of a sandbox whose agent asks for hosts that it works without: they are one quiet line."""

from __future__ import annotations

import json

import pytest
from cli_world import CommandLine, FakeSandbox

from engine.gateway.journal import Journal, JournalLine
from engine.state.configuration import Configuration, Running, save_running
from engine.state.layout import Layout

QUIET = "refused, and not needed by Codex: ab.chatgpt.com, chatgpt.com (3)"


@pytest.fixture(autouse=True)
def journal(layout: Layout, fake: FakeSandbox) -> None:
    with Journal(layout.instance("shop").journal, max_bytes=1 << 20, keep=1, sandbox="shop") as journal:
        for host in ("ab.chatgpt.com", "chatgpt.com", "evil.example.net", "chatgpt.com"):
            reason = f"no endpoint names {host}:443"
            journal.write(JournalLine(port=443, verdict="refused", protocol="tls", host=host, reason=reason))


def runs_with(layout: Layout, agent: object) -> None:
    save_running(layout, "shop", Running(Configuration({"agent": agent}, (), {}, {}), (), ""))


def test_they_are_one_line(sandbox: CommandLine, layout: Layout) -> None:
    runs_with(layout, {"use": "codex"})
    for argv in (("--summary",), ("--summary", "--refused")):
        lines = sandbox("journal", *argv).out.splitlines()
        assert [line.split()[0] for line in lines if line] == ["REFUSED", "evil.example.net", "refused,"]
        assert lines[-1] == QUIET
    rows = json.loads(sandbox("journal", "--summary", "--json").out)["hosts"]
    assert {row["host"]: row["unneeded"] for row in rows} == {
        "ab.chatgpt.com": True,
        "chatgpt.com": True,
        "evil.example.net": False,
    }


@pytest.mark.parametrize("agent", [None, {"use": "claude-code"}, {"use": "gone"}, {"command": ["bash"]}, "odd"])
def test_of_any_other_agent_nothing_is_quiet(sandbox: CommandLine, layout: Layout, agent: object) -> None:
    if agent is not None:
        runs_with(layout, agent)
    ran = sandbox("journal", "--summary")
    assert ran.code == 0 and "not needed" not in ran.out and ran.out.count("chatgpt.com:443") == 2
