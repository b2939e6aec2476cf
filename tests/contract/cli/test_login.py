"""`sandbox login`: what is kept on the user's side, and what is said before anything lives in a guest."""

from __future__ import annotations

import json

import pytest
from cli_world import CommandLine, start_fake
from test_live_up import runs_with

from engine.state.layout import Layout

KEY, TOKEN = "sk-ant-api03-0123456789abcdef", "sk-ant-oat01-0123456789abcdef"
CODEX = 'version: "1"\nname: shop\nagent: {use: codex, env: {WORD: one}}\n'


def kept(layout: Layout) -> str:
    return layout.secrets.read_text() if layout.secrets.exists() else ""


def test_a_token_is_kept_as_a_secret(sandbox: CommandLine, layout: Layout) -> None:
    ran = sandbox("login", "claude-code", "--kind", "subscription", stdin=f"{TOKEN}\n")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("kept anthropic in ") and TOKEN not in ran.out + ran.err
    assert "Claude Code takes the token of a subscription" in ran.err
    assert "anthropic" in kept(layout)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["claude-code"], "takes several kinds of credentials: --kind api-key or subscription"),
        (["claude-code", "--kind", "pony"], "Claude Code has no credential called pony"),
        (["claude"], "there is no agent 'claude'"),
        (["claude-code", "--inside"], "has no login that runs inside its machine"),
        (["codex", "--inside", "--kind", "api-key"], "exclude each other"),
        (["codex", "-n", "shop"], "a value is kept for all sandboxes"),
        (["kiro", "--kind", "x"], "it signs in inside its machine"),
    ],
)
def test_what_makes_no_sense(sandbox: CommandLine, layout: Layout, argv: list[str], words: str) -> None:
    ran = sandbox("login", *argv, stdin=f"{KEY}\n")
    assert ran.code == 2 and words in ran.err and kept(layout) == ""


def test_a_value_of_another_kind_is_not_kept(sandbox: CommandLine, layout: Layout) -> None:
    ran = sandbox("login", "claude-code", "--kind", "api-key", stdin=f"{TOKEN}\n")
    assert ran.code == 1 and "this is not an API key, by its looks" in ran.err
    assert "--kind subscription` takes the token of a subscription" in ran.err
    assert TOKEN not in ran.err and kept(layout) == ""


def test_a_login_inside_says_first_where_its_token_lives(sandbox: CommandLine, layout: Layout) -> None:
    with start_fake(sandbox.forks, layout, sandbox.project, "shop", "--echo"):
        runs_with(sandbox, layout, CODEX)
        ran = sandbox("login", "codex", "--inside")
        assert ran.code == 2 and ran.out == "" and "nobody is here to agree to that" in ran.err
        ran = sandbox("login", "codex", "--inside", "--yes")
        assert ran.code == 0, ran.err
        assert "The token that it gets lives in the guest: whatever runs there can read it" in ran.err
        assert "needs auth.openai.com, chatgpt.com, api.openai.com" in ran.err
        assert json.loads(ran.out)["argv"] == ["codex", "login", "--device-auth"]


def test_only_in_a_sandbox_of_that_agent(sandbox: CommandLine, layout: Layout) -> None:
    with start_fake(sandbox.forks, layout, sandbox.project, "shop", "--echo"):
        runs_with(sandbox, layout, CODEX)
        ran = sandbox("login", "kiro", "--yes")
        assert ran.code == 1 and ran.out == "" and "shop is no sandbox of Kiro CLI: its agent is codex" in ran.err


def test_a_kept_value_of_another_kind_names_the_sandbox_to_renew(sandbox: CommandLine, layout: Layout) -> None:
    text = "agent: {use: claude-code}\nendpoints: [{host: api.anthropic.com, secret: mine}]\n"
    with start_fake(sandbox.forks, layout, sandbox.project, "shop"):
        runs_with(sandbox, layout, f"{text}secrets: {{mine: {{keyring: anthropic}}}}\n", kinds={"mine": "key"})
        words = "shop holds the placeholder of another kind of credential: `sandbox up` renews it"
        assert words not in sandbox("secret", "set", "anthropic", stdin=KEY).err
        assert words in sandbox("secret", "set", "anthropic", stdin=TOKEN).err
        runs_with(sandbox, layout, f"{text}secrets: {{mine: {{keyring: anthropic}}}}\n", kinds={"mine": ""})
        assert words in sandbox("secret", "set", "anthropic", stdin=TOKEN).err, "it was started without a value"
        assert words not in sandbox("secret", "set", "anthropic", stdin=KEY).err
