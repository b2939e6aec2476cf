"""`sandbox run`: what it asks for, and what it refuses before anything is started."""

from __future__ import annotations

import pytest
from cli_world import CommandLine

USING = 'version: "1"\nagent: {use: claude-code}\n'


@pytest.mark.parametrize(
    ("argv", "file", "words"),
    [
        ([], USING, "the task is missing"),
        (["-p", " "], USING, "the task is empty"),
        (["-p", "x", "-f", "Sandboxfile.yaml"], USING, "one task is enough"),
        (["-p", "x", "--timeout", "soon"], USING, "must be a time such as 30m or 8h"),
        (["-p", "x"], 'version: "1"\n', "names no agent"),
        (["-p", "x"], 'version: "1"\nagent: {command: bash}\n', "names no agent"),
        (["-p", "x"], 'version: "1"\nagents: {a: {use: codex}, b: {use: gemini}}\n', "name one of a, b"),
        (["nobody", "-p", "x"], 'version: "1"\nagents: {a: {use: codex}}\n', "no agent called nobody"),
        (["-p", "x"], 'version: "1"\nagent: {use: nanoclaw}\n', "does nothing without a terminal"),
        (["-p", "x", "--parallel", "0"], USING, "from 1 to 64"),
        (["-p", "x", "--parallel", "2"], f"{USING}mounts: ['.:/w']\n", "2 agents would write in /w at once"),
        (["-p", "x", "--parallel", "9"], f"{USING}machine: {{memory: 900GiB}}\n", "9 machines need 8100GiB of memory"),
    ],
)
def test_what_is_wrong_is_told_first(sandbox: CommandLine, argv: list[str], file: str, words: str) -> None:
    sandbox.file(file)
    ran = sandbox("run", *argv)
    assert ran.code == 2 and words in ran.err and ran.out == ""


def test_a_missing_credential_is_told_before_anything_is_built(sandbox: CommandLine) -> None:
    secret = "endpoints: [{host: api.anthropic.com, secret: anthropic}]\nsecrets: {anthropic: {env: NOT_SET}}\n"
    sandbox.file(USING + secret)
    ran = sandbox("run", "--yes", "-p", "x")
    assert ran.code == 2 and ran.out == ""
    assert "error: Claude Code has no credential: the secret anthropic has no value\n" in ran.err
    assert "  variable NOT_SET is not set\n" in ran.err
    assert "hint: `sandbox secret set anthropic` gives it one\n" in ran.err
    assert "to build" not in ran.err


def test_the_task_may_come_by_standard_input(sandbox: CommandLine) -> None:
    sandbox.file(USING)
    assert "the task is empty" in sandbox("run", "-p", "-", stdin="").err
