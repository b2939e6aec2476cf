"""`agents`: several sandboxes in one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxfile import Loaded, SandboxfileError, parse

FILE = Path("/project/shop/Sandboxfile.yaml")
TWO = """
machine: {cpus: 1, memory: 1GiB}
packages: [git]
mounts: [.:/workspace]
endpoints: [npm]
agents:
  front:
    command: sh
    mounts: [./web:/workspace]
    endpoints: [{host: api.example.com}]
    ports: ['3000:3000']
  back:
    use: codex
    args: [--fast]
    machine: {memory: 4GiB}
    packages: [jq]
    setup: [make]
"""


def load(body: str) -> Loaded:
    return parse(f'version: "1"\n{body}', FILE)


def problems(body: str) -> str:
    with pytest.raises(SandboxfileError) as caught:
        load(body)
    return str(caught.value)


def test_each_agent_has_a_sandbox_of_its_own() -> None:
    front, back = load(TWO).each()
    assert (front.agent_name, front.sandbox.name, back.agent_name, back.sandbox.name) == (
        "front", "shop-front", "back", "shop-back",
    )  # fmt: skip
    assert front.sandbox.agent is not None and front.sandbox.agent.command == ("sh",)
    assert back.sandbox.agent is not None and (back.sandbox.agent.use, back.sandbox.agent.args) == (
        "codex",
        ("--fast",),
    )
    assert not front.sandbox.agents


def test_own_sections_lie_over_the_shared_ones() -> None:
    front, back = load(TWO).each()
    assert [(mount.source, mount.target) for mount in front.sandbox.mounts] == [("./web", "/workspace")]
    assert [(mount.source, mount.target) for mount in back.sandbox.mounts] == [(".", "/workspace")]
    assert [entry.host or entry.group for entry in front.sandbox.endpoints] == ["npm", "api.example.com"]
    assert [entry.host or entry.group for entry in back.sandbox.endpoints] == ["npm"]
    assert (front.sandbox.machine.memory, back.sandbox.machine.memory) == (1024**3, 4 * 1024**3)
    assert (front.sandbox.machine.cpus, back.sandbox.machine.cpus) == (1, 1)
    assert (front.sandbox.packages, back.sandbox.packages) == (("git",), ("git", "jq"))
    assert [step.run for step in back.sandbox.setup] == ["make"]


def test_a_file_without_agents_is_one_sandbox() -> None:
    loaded = load("agent: {command: sh}\n")
    assert loaded.each() == (loaded,)
    assert loaded.agent_name is None


def test_a_finding_about_one_sandbox_is_shown_where_it_is_written() -> None:
    front, back = load(TWO).each()
    assert front.diagnostic(("mounts", 0, "source"), "gone").render().startswith("Sandboxfile.yaml:10:14: agents.front")
    assert back.diagnostic(("mounts", 0, "source"), "gone").render().startswith("Sandboxfile.yaml:5:10: mounts[0]")
    assert back.diagnostic(("agent", "use"), "no").render().startswith("Sandboxfile.yaml:14:10: agents.back.use")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("agent: {command: sh}\nagents: {a: {command: sh}}", "agents: stands beside `agent`"),
        ("agents: {a: {}}", "agents.a: needs a command"),
        ("agents: {A: {command: sh}}", "must be 1 to 40 lower-case letters"),
        ("agents: {a: {command: sh, services: {}}}", "agents.a.services: unknown key"),
        ("agents: {a: {command: sh, mounts: [x]}}", "agents.a.mounts[0]: must be SOURCE:TARGET"),
        ("agents: {a: {command: sh, machine: {cpus: 0}}}", "agents.a.machine.cpus: must be at least 1"),
        ("agents: {a: {command: sh, endpoints: [{host: a.b, secret: s}]}}", "the secret 's' is not declared"),
        ("endpoints: [{host: a.b.c, deny: true}]\nagents: {a: {command: sh, endpoints: [a.b.c]}}", "can never match"),
        (f"agents: {{{'a' * 38}: {{command: sh}}}}", "is longer than 40 characters"),
        (
            "ports: ['80:80']\nagents: {a: {command: sh}, b: {command: sh}}",
            "2:9: ports[0]: host port 80 is wanted by the sandboxes of a and b",
        ),
        (
            "services: {w: {image: w, ports: ['80:80']}}\nagents: {a: {command: sh}, b: {command: sh}}",
            "host port 80 is wanted by",
        ),
        (
            "agents: {a: {command: sh, ports: ['80:80']}, b: {command: sh, ports: ['80:81']}}",
            "agents.b.ports[0]: host port 80 is wanted by",
        ),
    ],
)
def test_bad_agents(body: str, message: str) -> None:
    assert message in problems(body)


def test_a_shared_problem_is_told_once() -> None:
    text = problems("secrets: {s: {env: S}}\nendpoints: [a.b, a.b]\nagents: {a: {command: sh}, b: {command: sh}}")
    assert text.count("is the same as") == 1
