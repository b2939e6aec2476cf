"""What an agent is given in a sandbox: the command, the environment, and the files that keep it from asking."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import pytest

from engine.agents import list_agents, load_agent
from engine.agents.outfit import Held, Outfit, outfit_for
from sandboxfile.sections.agent import Agent

KEY = {"anthropic": Held(("api.anthropic.com",), "proxy-managed")}
TOKEN = {"mine": Held(("api.anthropic.com",), "sk-ant-oat01-proxy-managed")}


def outfit(held: dict[str, Held], name: str = "claude-code", **said: object) -> Outfit:
    return outfit_for(load_agent(name), Agent.model_validate({"use": name, **said}), "/work space", held)


def files(found: Outfit) -> dict[str, object]:
    return {path: json.loads(text) for path, _, text in found.files if path.endswith(".json")}


def test_the_seeds_of_a_key_and_of_the_agent_make_one_file() -> None:
    found = outfit(KEY)
    assert found.secret == "anthropic"
    assert files(found)["/home/agent/.claude/settings.json"] == {
        "skipDangerousModePermissionPrompt": True,
        "permissions": {"defaultMode": "bypassPermissions"},
        "apiKeyHelper": "echo proxy-managed",
    }
    assert files(found)["/home/agent/.claude.json"] == {
        "hasCompletedOnboarding": True,
        "hasSeenAutoDefaultNudge": True,
        "projects": {"/work space": {"hasTrustDialogAccepted": True}},
    }
    assert {mode for _, mode, _ in found.files} == {0o600}


def test_the_kind_of_credential_is_told_by_its_placeholder() -> None:
    found = outfit(TOKEN)
    assert found.secret == "mine"
    assert found.environment["CLAUDE_CODE_OAUTH_TOKEN"] == "sk-ant-oat01-proxy-managed"
    assert "apiKeyHelper" not in json.dumps(files(found))


def test_of_a_key_and_a_token_side_by_side_the_usual_kind_is_taken() -> None:
    both = outfit({**TOKEN, **KEY})
    assert both.secret == "anthropic" and "CLAUDE_CODE_OAUTH_TOKEN" not in both.environment
    unusual = {"anthropic": Held(("api.anthropic.com",), "a-placeholder-of-nobody")}
    assert outfit({**unusual, **TOKEN}).secret == "mine", "a kind's own placeholder comes first"


def test_a_secret_for_another_host_is_not_its_own() -> None:
    found = outfit({"github": Held(("api.github.com",), "github_pat_placeholder")})
    assert found.secret is None and "apiKeyHelper" not in json.dumps(files(found))
    assert outfit({"any": Held(("*.anthropic.com",), "proxy-managed")}).secret == "any"


def test_the_file_has_the_last_word() -> None:
    found = outfit(KEY, args=["--model", "x"], env={"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "0", "A": "b"})
    assert found.command == ("claude", "--dangerously-skip-permissions", "--model", "x")
    assert found.environment == {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "0", "A": "b"}
    assert all(PurePosixPath(path).is_relative_to("/root") for path, _, _ in outfit(KEY, user="root").files)


@pytest.mark.parametrize("name", [agent.name for agent in list_agents()])
def test_no_word_is_left_in_what_any_agent_gets(name: str) -> None:
    definition = load_agent(name)
    for credential in definition.credentials.values():
        held = {"s": Held(tuple(injection.host for injection in credential.inject), credential.placeholder)}
        found = outfit(held, name)
        assert found.secret == "s"
        assert "{{" not in json.dumps([found.command, dict(found.environment), found.files])
    assert "{{" not in json.dumps(outfit({}, name).files)


@pytest.mark.parametrize("name", [agent.name for agent in list_agents()])
def test_what_is_kept_is_a_part_of_its_state_and_signs_nobody_in(name: str) -> None:
    definition = load_agent(name)
    for path in definition.sessions:
        assert any(path.startswith(f"{state}/") for state in definition.state)
        assert not any(word in path for word in ("auth", "credential", "token", "config", "settings", "sqlite"))
