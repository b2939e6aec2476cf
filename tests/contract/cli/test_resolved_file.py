"""`config` and `validate` over layers, variables and several agents, as commands."""

from __future__ import annotations

import json

import pytest
from cli_world import CommandLine

HEAD = 'version: "1"\nname: shop\n'


def test_config_shows_the_file_as_it_counts(sandbox: CommandLine) -> None:
    sandbox.file(HEAD + "machine: {cpus: $CPUS}\nmounts: ['${CODE:-.}:/workspace']\n")
    sandbox.file("machine: {memory: 4GiB}\n", "Sandboxfile.local.yaml")
    (sandbox.project / ".env").write_text("CPUS=3\n")
    ran = sandbox("config", "--set", "packages+=jq")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        'version: "1"\nname: shop\nmachine:\n  cpus: 3\n  memory: 4GiB\npackages:\n  - jq\n'
        "mounts:\n  - source: .\n    target: /workspace\n"
    )
    assert json.loads(sandbox("config", "--json").out)["machine"] == {"cpus": 3, "memory": "4GiB"}
    assert json.loads(sandbox("config", "--json", "--all").out)["machine"]["disk"] == "20GiB"
    assert sandbox.effects() == []


def test_its_output_is_a_sandboxfile_again(sandbox: CommandLine) -> None:
    sandbox.file(HEAD + "services: {a: {image: a, command: 'echo $$HOME ${X:-x}'}}\n")
    first = sandbox("config").out
    sandbox.file(first)
    assert sandbox("config", X="other").out == first


def test_origins(sandbox: CommandLine) -> None:
    sandbox.file(HEAD + "machine: {cpus: $CPUS}\n")
    rows = sandbox("config", "--origins", CPUS="2").out.splitlines()
    assert "machine.cpus        2      Sandboxfile.yaml:3 with CPUS (environment)" in rows
    assert "machine.disk        20GiB  default" in rows
    found = json.loads(sandbox("config", "--origins", "--json", "--set", "machine.disk=9GiB", CPUS="2").out)
    disk = next(row for row in found if row["path"] == ["machine", "disk"])
    assert disk == {"path": ["machine", "disk"], "value": "9GiB", "source": "--set machine.disk=9GiB", "variables": []}


def test_one_agent_of_several(sandbox: CommandLine) -> None:
    sandbox.file(HEAD + "agents: {a: {command: sh}, b: {command: sh, machine: {cpus: 7}}}\n")
    assert json.loads(sandbox("config", "--agent", "b", "--json").out)["machine"]["cpus"] == 7
    assert "agents:" in sandbox("config").out
    ran = sandbox("config", "--agent", "c")
    assert ran.code == 2 and "the file has no agent called c" in ran.err and "there are: a, b" in ran.err
    sandbox.file(HEAD)
    assert "this file has one sandbox" in sandbox("config", "--agent", "a").err


def test_the_schema_for_editors(sandbox: CommandLine) -> None:
    assert json.loads(sandbox("config", "--schema").out)["$schema"].startswith("https://json-schema.org/")


@pytest.mark.parametrize("command", ["validate", "config", "plan", "up"])
def test_problems_of_a_layer_are_shown_in_it(sandbox: CommandLine, command: str) -> None:
    sandbox.file(HEAD)
    sandbox.file("machine: {cpus: 0}\n", "Sandboxfile.local.yaml")
    inner = sandbox.project / "inner"
    inner.mkdir()
    ran = sandbox(command, cwd=inner)
    assert ran.code == 2
    assert ran.err.startswith("../Sandboxfile.local.yaml:1:17: machine.cpus: must be at least 1")
    ran = sandbox(command, "-f", "more.yaml", cwd=inner)
    assert ran.code == 2 and "more.yaml: there is no such file" in ran.err
    assert sandbox.effects() == []


def test_warnings_are_shown_and_leave_the_file_valid(sandbox: CommandLine) -> None:
    sandbox.file(HEAD + "services: {a: {image: localhost/a, environment: {A: $GONE}}}\n")
    ran = sandbox("validate")
    assert ran.code == 0 and ran.out.endswith(": valid\n")
    assert "warning: services.a.environment.A: the variable GONE is not set" in ran.err
    answer = json.loads(sandbox("validate", "--json").out)
    assert answer["valid"] is True
    assert [row["severity"] for row in answer["diagnostics"]] == ["warning"]
    assert "warning: services.a.environment.A" in sandbox("config").err
