"""`sandbox acp`: what it refuses before anything is started, and that it asks nobody."""

from __future__ import annotations

import pytest
from cli_world import CommandLine

USING = 'version: "1"\nagent: {use: opencode}\n'


@pytest.mark.parametrize(
    ("argv", "file", "words"),
    [
        ([], 'version: "1"\n', "the agent of this file does not speak the Agent Client Protocol"),
        ([], 'version: "1"\nagent: {command: bash}\n', "does not speak the Agent Client Protocol"),
        ([], 'version: "1"\nagent: {use: claude-code}\n', "Claude Code does not speak the Agent Client Protocol"),
        ([], 'version: "1"\nagents: {a: {use: opencode}, b: {use: gemini}}\n', "name one of them"),
        (["--command", "'"], USING, "the command cannot be read"),
        (["--command", " "], USING, "the command is empty"),
        (["--command", "x"], 'version: "1"\nmounts: ["/srv:/srv"]\n', "nobody is here"),
        (["nobody"], 'version: "1"\nagents: {a: {use: codex}}\n', "no agent called nobody"),
        ([], f'{USING}mounts: ["/srv:/srv"]\n', "nobody is here"),
    ],
)
def test_what_is_wrong_is_told_on_standard_error_alone(
    sandbox: CommandLine, argv: list[str], file: str, words: str
) -> None:
    sandbox.file(file)
    ran = sandbox("acp", *argv)
    assert ran.code == 2 and words in ran.err and ran.out == "", ran
