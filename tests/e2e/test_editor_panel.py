"""An editor's agent panel and real agents in a machine: from npm, with a stand-in for their vendors."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from acp_client import Editor
from test_agent_tasks import AGENTS
from vendors import MUST_BE_ROOT, build, start_vendors, values
from world import World

from engine import resources

COMMANDS = json.dumps(["expr 40 + 2 | sed s,^,proof-, | tee proof.txt"])
ANSWER_S = 600.0  # for one answer, under emulation
ABILITIES = {"fs": {"readTextFile": True, "writeTextFile": True}, "terminal": True}


@MUST_BE_ROOT
@pytest.mark.parametrize("agent", ["opencode", "codex"])
def test_a_tool_call_by_an_editor(world: World, agent: str) -> None:
    facts = AGENTS[agent]
    env = {**facts.environment(), "AGENT_COMMANDS": COMMANDS, "AGENT_UNTIL": ""}
    project = world.project("", directory="by-editor")
    template = (resources.templates() / agent / "Sandboxfile.yaml").read_text()
    (project / "Sandboxfile.yaml").write_text(template)
    (project / "src").mkdir()
    build(world, project, env)
    with start_vendors(world, facts.hosts, "model_vendor.py", env) as vendor:
        argv = [*world.within(project), sys.executable, "-m", "engine.cli.main", "acp", "--yes", "--progress", "plain"]
        with Editor(argv, project, os.environ, ANSWER_S) as editor:
            began = result(editor.call("initialize", protocolVersion=1, clientCapabilities=ABILITIES))
            assert began["protocolVersion"] == 1 and "_meta" not in str(began.get("authMethods"))
            outside = editor.call("session/new", cwd=str(project.parent), mcpServers=[])
            assert outside["error"]["code"] == -32602, outside
            servers = [{"name": "mine", "command": "/bin/sh", "args": ["-c", "touch host"], "env": []}]
            session = result(editor.call("session/new", cwd=str(project / "src"), mcpServers=servers))["sessionId"]
            prompt = [{"type": "text", "text": "say what forty and two make"}]
            done = result(editor.call("session/prompt", sessionId=session, prompt=prompt))
            assert done["stopReason"] == "end_turn"
            _shows_its_work(editor, project)
            got = vendor.got()
            assert got and all(values(one, facts.header) == [facts.scheme + facts.key] for one in got)
            assert str(project) not in str([one["body"] for one in got]), "the agent knows the guest's paths alone"
            assert editor.close() in (0, 1, 143)  # the adapter of Codex ends with 1 when its input does
            assert "MCP servers are left out" in editor.errors
        assert [one["status"] for one in world.listed(project)] == ["running"], "it goes on running"


def result(answer: dict[str, Any]) -> Any:
    assert "result" in answer, answer
    return answer["result"]


def _shows_its_work(editor: Editor, project: Path) -> None:
    """The tool ran in the guest, in the directory of the session, and the editor was told so."""
    assert (project / "src" / "proof.txt").read_text() == "proof-42\n"
    assert not (project / "host").exists() and not (project / "src" / "host").exists()
    kinds = [update["sessionUpdate"] for update in editor.updates]
    assert "tool_call" in kinds and "tool_call_update" in kinds, kinds
    states = [update.get("status") for update in editor.updates if update["sessionUpdate"] == "tool_call_update"]
    assert states[-1] == "completed", states
    told = [update["content"]["text"] for update in editor.updates if update["sessionUpdate"] == "agent_message_chunk"]
    assert "proof-42" in "".join(told), told
    paths = [place["path"] for update in editor.updates for place in update.get("locations") or []]
    assert all(path.startswith(str(project)) for path in paths), paths
    assert {one["method"] for one in editor.asked} <= {"session/request_permission"}
