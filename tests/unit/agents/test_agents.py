"""Definitions of agents: those that there are, and what is wrong with a broken one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine import resources
from engine.agents import FILE, known_agents, list_agents, load_agent
from engine.agents.definition import AgentDefinition, read_definition
from engine.errors import EngineError
from engine.starter.starting import look as begin
from engine.starter.templates import template_names
from sandboxfile import SandboxfileError

GOOD = (resources.templates() / "claude-code" / FILE).read_text()


def read(tmp_path: Path, text: str) -> AgentDefinition:
    folder = tmp_path / "claude-code"
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_text(text)
    return read_definition(folder / FILE)


@pytest.mark.parametrize("name", known_agents())
def test_each_loads(name: str) -> None:
    agent = load_agent(name)
    assert agent.name == name and agent.title and agent.summary
    assert agent.install.steps
    assert agent in list_agents()


def test_nothing_names_a_registry() -> None:
    """The registries are the user's own: packages are named, never the host that has them."""
    for agent in list_agents():
        for step in agent.install.steps:
            if step.npm or step.unpack:
                assert not step.hosts
        assert not any("registry.npm" in host.host for host in agent.hosts)


def test_names_are_cheap() -> None:
    program = "import sys; from engine.agents import known_agents; known_agents(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydantic", "ruamel", "sandboxfile"} & set(modules)


def test_unknown() -> None:
    with pytest.raises(EngineError) as caught:
        load_agent("claud-code")
    assert caught.value.exit_code == 2
    assert (caught.value.brief, caught.value.hint) == ("there is no agent 'claud-code'", "did you mean 'claude-code'?")
    with pytest.raises(EngineError) as caught:
        load_agent("zzz")
    assert "amp, claude-code, cline, codex" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title: Claude Code\n", "", "title: is missing"),
        ("title:", "titel:", "titel: unknown key\n  titel: Claude Code\n  ^\n  hint: did you mean 'title'?"),
        ("evidence: run", "evidence: hearsay", "evidence: must be run or documents, got 'hearsay'"),
        ("integrity: sha512-9Gn", "integrity: md5-9Gn", "integrity: must be sha512- and 88 characters of base64"),
        ("links: {claude: package/claude}", "links: {claude: ../../bin/sh}", "must be a path in the archive"),
        ("into: /opt/claude-code", "into: /usr", "must be a directory in /opt"),
        ('[claude, -p, "{{prompt}}", --output-format, json, ', "[claude, ", "headless: has no place for the task"),
        (
            "[claude, --dangerously",
            "[claude, '{{prompt}}', --dangerously",
            "interactive: has the unknown word {{prompt}}",
        ),
        ("header: x-api-key", "header: X-API-Key", "header: must be a header's name in lower case"),
        ('"Bearer {{secret}}"', "Bearer", "value: does not carry the secret"),
        ('{apiKeyHelper: "echo {{placeholder}}"}', "{}", "never gives the guest its placeholder"),
        ('"{{placeholder}}"}', '"{{secret}}"}', "env: has the unknown word {{secret}}"),
        ('{"{{workspace}}": {', '{"{{placeholder}}": {', "seeds: has the unknown word {{placeholder}}"),
        (
            "host: api.anthropic.com, why",
            "host: api.example.com, why",
            "goes to api.anthropic.com, which is not in `hosts`",
        ),
        ("  [raw", "  [api.anthropic.com, raw", "api.anthropic.com is both needed and unneeded"),
        ("path: ~/.claude.json", "path: ~/../.claude.json", "must be a path of the guest"),
        ("    json:\n      hasC", "    text: x\n    json:\n      hasC", "needs either `json` or `text`"),
        ("docs: https:", "docs: http:", "docs: must be an https URL"),
        ("title: Claude Code", "title: 1", "title: input should be a valid string, got 1"),
        ("title: Claude Code", "title: [", "agent.yaml"),
    ],
)
def test_broken(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert read(tmp_path, GOOD).title == "Claude Code"
    assert old in GOOD
    with pytest.raises(SandboxfileError) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert said in str(caught.value)
    assert all(diagnostic.file == f"claude-code/{FILE}" for diagnostic in caught.value.diagnostics)
    assert all(diagnostic.position for diagnostic in caught.value.diagnostics)


def test_all_problems_at_once(tmp_path: Path) -> None:
    with pytest.raises(SandboxfileError) as caught:
        read(tmp_path, GOOD.replace("title: Claude Code", "title: ''").replace("into: /opt/claude-code", "into: /x"))
    assert len(caught.value.diagnostics) == 2


def test_seeds_of_one_path(tmp_path: Path) -> None:
    text = GOOD.replace("state: [", "  - {path: ~/.claude.json, text: x}\nstate: [")
    with pytest.raises(SandboxfileError, match=r"seeded twice"):
        read(tmp_path, text)


def test_adding_an_agent_is_adding_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(resources.templates(), tmp_path / "templates")
    shutil.copytree(tmp_path / "templates/claude-code", tmp_path / "templates/new-agent")
    definition = tmp_path / "templates/new-agent" / FILE
    definition.write_text(definition.read_text().replace("marks: [CLAUDE.md, .claude]", "marks: [NEW.md]"))
    resources.templates.cache_clear()
    monkeypatch.setattr(resources, "_PACKAGES", tmp_path)
    try:
        assert "new-agent" in known_agents() and load_agent("new-agent").marks == ("NEW.md",)
        assert "new-agent" in template_names()
        (tmp_path / "NEW.md").write_text("")
        assert begin(tmp_path, None).suggestion == "new-agent"
    finally:
        resources.templates.cache_clear()


def test_one_kind_of_step(tmp_path: Path) -> None:
    text = GOOD.replace("    - unpack: ", "    - run: make\n      unpack: ")
    with pytest.raises(SandboxfileError) as caught:
        read(tmp_path, text)
    assert "must have one of unpack, npm, download and run, got unpack or run" in str(caught.value)


def test_words_of_agents() -> None:
    codex = load_agent("codex")
    assert codex.commands.headless is not None and "{{prompt}}" in codex.commands.headless
    unpack = codex.install.steps[0].unpack
    assert unpack is not None and unpack.amd64 is not None and unpack.amd64.version == "{{version}}-linux-x64"
    assert load_agent("kiro").credentials == {}  # which header its key goes into is not known
