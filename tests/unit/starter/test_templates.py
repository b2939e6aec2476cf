"""Every template: valid as written, with all that is commented out, and as its agent needs it."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from engine.agents import known_agents, load_agent
from engine.errors import EngineError
from engine.starter.draft import ORDER
from engine.starter.templates import REFERENCE, list_templates, read_template, template_names
from sandboxfile import Loaded, parse
from sandboxfile.reading.source import read_source
from sandboxfile.sections.agents import SECTIONS
from sandboxfile.sections.model import Sandbox

WANTED = {"claude-code", "codex", "opencode", "copilot", "gemini", "kiro", "docker-agent", "openclaw", "nanoclaw"}
WANTED |= {"pi", "qwen-code", "cline", "droid", "amp"}


def load(text: str, tmp_path: Path) -> Loaded:
    return parse(text, tmp_path / "Sandboxfile.yaml")


def uncommented(text: str) -> str:
    """With all settings that are left out: lines of `#` and no space, and those that go on below one."""
    lines, inside = [], False
    for line in text.splitlines():
        match = re.fullmatch(r"( *)#(\S.*)", line) or (inside and re.fullmatch(r"( *)#(  .*)", line)) or None
        inside = match is not None
        lines.append(match[1] + match[2] if match else line)
    return "\n".join(lines) + "\n"


def test_uncommenting() -> None:
    assert uncommented("# prose\n#  more\n#a:\n#  - b\n  #- c\nd: 1\n") == "# prose\n#  more\na:\n  - b\n  - c\nd: 1\n"


def test_there_are_all() -> None:
    assert set(known_agents()) == WANTED
    assert set(template_names()) == {*WANTED, "shell", REFERENCE}
    assert [item.is_agent for item in list_templates()] == [True] * len(WANTED) + [False, False]


@pytest.mark.parametrize("name", template_names())
def test_valid_as_written(name: str, tmp_path: Path) -> None:
    loaded = load(read_template(name), tmp_path)
    assert loaded.warnings == ()
    assert loaded.sandbox.mounts[0].target == "/workspace"
    assert loaded.sandbox.agent is not None and loaded.sandbox.agent.use == (name if name in WANTED else None)


@pytest.mark.parametrize("name", template_names())
def test_valid_with_everything_that_is_left_out(name: str, tmp_path: Path) -> None:
    text = uncommented(read_template(name))
    load(text, tmp_path)
    assert not re.search(r"(?m)^ *#\S", text)


@pytest.mark.parametrize("name", template_names())
def test_the_hand_that_drafts_know(name: str) -> None:
    """Paragraphs of prose and one section; sections in their order; what counts is written as a block."""
    text = read_template(name)
    assert text.endswith("\n") and not re.search(r"[ \t]$|\t", text, re.MULTILINE)
    assert all(len(line) <= 120 for line in text.splitlines())
    sections = []
    for paragraph in text.strip("\n").split("\n\n"):
        body = [line for line in paragraph.split("\n") if not re.match(r"#( |$)", line)]
        if body:
            match = re.match(r"(#?)([a-z]+):", body[0])
            assert match, body[0]
            sections.append(match[2])
            if (
                match[2] in ("packages", "setup", "mounts", "endpoints", "secrets", "services", "agent", "machine")
                and not match[1]
            ):
                assert body[0] == f"{match[2]}:"
    assert sections == sorted(sections, key=ORDER.index)
    assert "\n  - .:/workspace" in text


@pytest.mark.parametrize("name", sorted(WANTED))
def test_an_agent_gets_what_it_needs(name: str, tmp_path: Path) -> None:
    """Hosts and secrets of the starter file are those of the definition."""
    agent = load_agent(name)
    sandbox = load(read_template(name), tmp_path).sandbox
    everything = load(uncommented(read_template(name)), tmp_path).sandbox
    hosts = {endpoint.host for endpoint in everything.endpoints}
    assert {needed.host for needed in agent.hosts} <= hosts
    if agent.credentials:
        first = next(iter(agent.credentials.values()))
        assert {injection.host for injection in first.inject} & {end.host for end in sandbox.endpoints if end.secret}
    carried = {(end.host, end.secret) for end in everything.endpoints if end.secret}
    known = {(rule.host, item.secret) for item in agent.credentials.values() for rule in item.inject}
    assert carried <= known
    sources = {item.secret: item.source.env for item in agent.credentials.values()}
    for secret, source in everything.secrets.items():
        assert source.env in {
            name for item in agent.credentials.values() if item.secret == secret for name in item.source.env
        }
    assert set(everything.secrets) <= set(sources)
    assert sandbox.machine.memory >= agent.machine.memory


@pytest.mark.parametrize("name", sorted(WANTED))
def test_a_summary_is_said_once(name: str) -> None:
    summary = next(item.summary for item in list_templates() if item.name == name)
    assert summary == load_agent(name).summary


def fields(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every field; items of lists and values of mappings have none of their own."""
    for name, field in model.model_fields.items():
        inside = (*path, field.alias or name)
        yield inside
        for inner in models(field.annotation):
            yield from fields(inner, inside)


def models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple, list, dict) or hasattr(annotation, "__value__"):
        return [model for inner in get_args(annotation) for model in models(inner)]
    return []


def keys(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(data, list):
        for item in data:
            yield from keys(item, path)
    elif isinstance(data, dict):
        for key, item in data.items():
            yield (*path, key)
            yield from keys(item, (*path, key))
            if path == ("secrets",) or path == ("agents",):  # their keys are names
                yield from keys(item, path)


def documented() -> dict[str, Any]:
    """Everything that the template shows, the sections of single agents as those that they are laid over."""
    text = read_template(REFERENCE)
    data = dict(read_source(uncommented(text), "default").data)
    prose = re.search(r"(?m)^#   agents:\n(?:#     .*\n)+", text)
    assert prose, "the form with several agents is prose: it stands in place of `agent`"
    several = read_source(re.sub(r"(?m)^#   ", "", prose[0]), "agents").data
    return data | several


def test_the_reference_has_every_field() -> None:
    shown = set(keys(documented()))
    wanted = set(fields(Sandbox))
    # An agent of several has the fields of `agent` and of the sections, which are shown there.
    elsewhere = {path for path in wanted if path[0] == "agents" and len(path) > 1}
    agent = {path[1:] for path in wanted if path[0] == "agent"}
    for path in elsewhere:
        assert path[1] in SECTIONS or path[1:] in agent, path
    missing = wanted - elsewhere - shown
    assert not missing, f"templates/{REFERENCE}/Sandboxfile.yaml does not show {sorted(missing)}"


def test_a_new_field_would_be_missed() -> None:
    class Wider(Sandbox):
        colour: str = ""

    assert ("colour",) in set(fields(Wider)) - set(keys(documented()))
    assert ("machine", "idle") in set(fields(Sandbox))
    assert ("endpoints", "as") in set(fields(Sandbox))


def test_the_reference_has_short_and_long_forms() -> None:
    data = documented()
    for section in ("setup", "mounts", "endpoints", "ports"):
        kinds = {type(item) for item in data[section]}
        assert dict in kinds and kinds - {dict}, section
    assert {"{", "["} <= set(read_template(REFERENCE))


def test_several_agents_as_it_says(tmp_path: Path) -> None:
    data = documented()
    text = re.sub(r"(?ms)^agent:.*?\n\n", "", read_template(REFERENCE), count=1)
    lines = [
        f"  {name}: {{{', '.join(f'{key}: {value}' for key, value in entry.items())}}}"
        for name, entry in data["agents"].items()
    ]
    loaded = load(text + "agents:\n" + "\n".join(lines).replace("['", '["').replace("']", '"]') + "\n", tmp_path)
    assert [one.agent_name for one in loaded.each()] == list(data["agents"])


def test_an_unknown_template() -> None:
    with pytest.raises(EngineError) as caught:
        read_template("claude-cod")
    assert caught.value.exit_code == 2 and caught.value.hint == "did you mean 'claude-code'?"
    with pytest.raises(EngineError) as caught:
        read_template("../../etc")
    assert "the templates are" in str(caught.value.hint)


def test_type_hints_can_be_read() -> None:
    """`fields` walks annotations: an unresolved one would hide fields from it."""
    for model in {Sandbox, *models(Sandbox.model_fields["mounts"].annotation)}:
        assert typing.get_type_hints(model)
