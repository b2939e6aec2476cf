"""A working directory that does not exist any more: one sentence, and commands that do not need it do their work."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from cli_world import CommandLine, Ran

from engine.cli.names import COMMANDS

SAID = "the working directory does not exist any more"
# Each command as one calls it in a project, where it is about the project.
OF_PROJECT = [
    "acp",
    "add package jq",
    "allow example.com",
    "apply",
    "build -y",
    "config",
    "config --origins",
    "console",
    "deny example.com",
    "diff",
    "down",
    "exec -- true",
    "exec true",
    "fork",
    "graph",
    "init",
    "init shell --yes",
    "init shell ../other --yes",
    "init --from ../compose.yaml",
    "journal",
    "logs",
    "pause",
    "plan",
    "pull",
    "restart db",
    "resume",
    "run -p hello",
    "secret ls",
    "snapshot label",
    "start",
    "stop",
    "sync",
    "trust show",
    "up",
    "up -d -y",
    "up ../other",
    "validate",
    "validate ../other",
    "validate other.yaml",
]
# These are about all sandboxes, or about none.
OF_NOBODY = [
    "--help",
    "cache ls",
    "completion bash",
    "down --all",
    "endpoints ls",
    "init --list",
    "ls",
    "ssh-config",
    "stats",
    "trust ls",
]


@pytest.fixture
def gone(tmp_path: Path) -> Path:
    (tmp_path / "gone").mkdir()
    return tmp_path / "gone"


def run(sandbox: CommandLine, gone: Path, call: str, *more: str) -> Ran:
    return sandbox(*shlex.split(call), *more, cwd=gone, main="nowhere:run", stdin="value")


def test_every_command_is_here() -> None:
    known = {call.split()[0] for call in (*OF_PROJECT, *OF_NOBODY)}
    # The first two want a terminal before anything else, the next two are about what they name; `doctor` takes long.
    assert set(COMMANDS) - known == {"attach", "shell", "cp", "login", "doctor"}


@pytest.mark.parametrize("call", OF_PROJECT)
def test_of_a_project(sandbox: CommandLine, gone: Path, call: str) -> None:
    ran = run(sandbox, gone, call)
    assert ran.code in (1, 2) and ran.out == "", ran
    assert SAID in ran.err and len(ran.err.splitlines()) <= 2, ran.err


@pytest.mark.parametrize("call", OF_NOBODY)
def test_of_no_project(sandbox: CommandLine, gone: Path, call: str) -> None:
    ran = run(sandbox, gone, call)
    assert "bug" not in ran.err and SAID not in ran.err, ran.err


@pytest.mark.parametrize("call", ["plan", "validate", "validate ../other", "init shell", "graph", "pause", "ls", "up"])
def test_as_json(sandbox: CommandLine, gone: Path, call: str) -> None:
    ran = run(sandbox, gone, call, "--json")
    document = json.loads(ran.out)
    if call != "ls":
        [row] = document["diagnostics"]
        assert ran.code in (1, 2) and SAID in row["message"] + str(row["hint"])


def test_a_path_that_counts_from_there(sandbox: CommandLine, gone: Path) -> None:
    """The system still finds what is beside it, but a sandbox is known by its absolute path, which there is not."""
    (gone.parent / "other").mkdir()
    (gone.parent / "other" / "Sandboxfile.yaml").write_text('version: "1"\n')
    assert SAID in run(sandbox, gone, "validate ../other").err
    gone.mkdir()
    assert run(sandbox, gone, f"validate {gone.parent / 'other'}").code == 0
