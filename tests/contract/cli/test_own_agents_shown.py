"""Agents of the user's own on the command line: found, shown with where they are, and checked like other files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cli_world import CommandLine

DEFINITION = """\
title: Mine
summary: Mine, an agent of my own
evidence: run
install:
  version: "1.0.0"
  steps: [{run: "true"}]
commands: {interactive: [mine]}
"""
USES = 'version: "1"\nname: shop\nagent: {use: mine}\n'


@pytest.fixture
def mine() -> Path:
    file = Path(os.environ["SANDBOX_CONFIG_DIR"], "agents", "mine", "agent.yaml")
    file.parent.mkdir(parents=True)
    file.write_text(DEFINITION)
    return file


def test_it_is_listed_with_its_place(sandbox: CommandLine, mine: Path) -> None:
    lines = sandbox("init", "--list").out.splitlines()
    assert any(line.startswith("mine ") and line.endswith(f"(yours, {mine.parent})") for line in lines)
    rows = {row["name"]: row for row in json.loads(sandbox("init", "--list", "--json").out)}
    assert rows["mine"]["own"] == f"yours, {mine.parent}" and rows["codex"]["own"] is None


def test_a_file_is_written_for_it(sandbox: CommandLine, mine: Path) -> None:
    assert sandbox("init", "mine", "--yes").code == 0
    assert "use: mine" in (sandbox.project / "Sandboxfile.yaml").read_text()
    assert sandbox("validate").code == 0


def test_the_plan_says_whose_it_is(sandbox: CommandLine, mine: Path) -> None:
    sandbox.file(USES)
    ran = sandbox("plan")
    assert ran.code == 0 and f"Mine 1.0.0 (yours, {mine.parent})" in ran.out
    mine.parent.rename(mine.parents[1] / "codex")
    sandbox.file(USES.replace("mine", "codex"))
    assert "in place of the one that comes with it" in sandbox("plan").out


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_a_broken_one_is_shown_with_its_place(sandbox: CommandLine, mine: Path, command: str) -> None:
    sandbox.file(USES)
    mine.write_text(DEFINITION.replace("title:", "titel:"))
    ran = sandbox(command)
    assert ran.code == 2
    assert f"{mine}:1:1: titel: unknown key" in ran.err and "^" in ran.err and "did you mean 'title'?" in ran.err


def test_a_package_of_npm_in_a_plan(sandbox: CommandLine) -> None:
    sandbox.file('version: "1"\nagent: {use: "npm:@acme/agent@1.2.3", command: [agent, --yolo]}\n')
    ran = sandbox("plan")
    assert ran.code == 0 and "@acme/agent 1.2.3" in ran.out and "node-linux" in ran.out
    sandbox.file('version: "1"\nagent: {use: "npm:@acme/agent", command: [agent]}\n')
    ran = sandbox("validate")
    assert ran.code == 2 and "Sandboxfile.yaml:2:14: agent.use: must be a package of npm in one version" in ran.err
    assert "npm view" in ran.err
