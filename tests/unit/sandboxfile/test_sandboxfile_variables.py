"""Where variables come from, where they may go, and what they become."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sandboxfile import Inputs, Loaded, SandboxfileError, parse


def load(project: Path, body: str, **environment: str) -> Loaded:
    return parse(f'version: "1"\n{body}\n', project / "Sandboxfile.yaml", Inputs(environment=environment))


def problems(project: Path, body: str, **environment: str) -> str:
    with pytest.raises(SandboxfileError) as caught:
        load(project, body, **environment)
    return str(caught.value)


def test_a_value_comes_from_the_environment_then_from_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=file\nB=file\n")
    loaded = load(tmp_path, "agent: {command: sh, env: {X: $A, Y: $B}}", A="environment")
    assert loaded.sandbox.agent is not None
    assert loaded.sandbox.agent.env == {"X": "environment", "Y": "file"}
    assert loaded.variables == {"A": "environment", "B": ".env"}


def test_only_what_is_read_is_told(tmp_path: Path) -> None:
    assert load(tmp_path, "mounts: [.:/w]", A="1").variables == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1", "1"),
        ("export A=1", "1"),
        ("A='single $B ${C}'", "single $B ${C}"),
        ('A="double $B"\n', "double "),
        ("B=two\nA=one-${B}", "one-two"),
        ("A=${GONE:-default}", "default"),
        ("A=1 # a comment", "1"),
        ("# A=0\n\nA=1", "1"),
        ("A=first\nA=second", "second"),
        ("A=a=b", "a=b"),
        ("A=\r\n", ""),
    ],
)
def test_the_env_file_is_read_as_compose_reads_it(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / ".env").write_text(text)
    loaded = load(tmp_path, 'agent: {command: sh, env: {X: "$A"}}')
    assert loaded.sandbox.agent is not None
    assert loaded.sandbox.agent.env["X"] == expected


def test_a_bad_line_of_the_env_file_is_a_problem_with_its_line_and_without_its_value(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GOOD=1\nBAD LINE=hunter2\n")
    text = problems(tmp_path, 'agent: {command: sh, env: {X: "$A"}}')
    assert ".env:2:1: this line is no NAME=value: 'BAD LINE'" in text
    assert "hunter2" not in text


def test_the_env_file_is_not_looked_at_without_need(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("this is no env file at all\n")
    load(tmp_path, "agent: {command: sh, env: {X: $A}}", A="1")


@pytest.mark.parametrize("kind", ["link", "fifo", "huge"])
def test_an_env_file_that_is_none_is_refused(tmp_path: Path, kind: str) -> None:
    project, file = tmp_path / "project", tmp_path / "project/.env"
    project.mkdir()
    match kind:
        case "link":
            (tmp_path / "credentials").write_text("A=stolen\n")
            file.symlink_to("../credentials")
        case "fifo":
            os.mkfifo(file)
        case "directory":
            file.mkdir()
        case "huge":
            file.write_text("A=1\n" * 100_000)
    text = problems(project, "agent: {command: sh, env: {X: $A}}")
    assert ".env: cannot be used" in text
    assert "stolen" not in text


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        ('machine: {cpus: "${N}"}', ("machine", "cpus"), 3),
        ("machine:\n  cpus: $N", ("machine", "cpus"), 3),
        ("machine:\n  cpus: ${GONE:-4}", ("machine", "cpus"), 4),
        ('machine: {memory: "${N}GiB"}', ("machine", "memory"), 3 * 1024**3),
        ('ports: ["$N:80"]', ("ports", 0, "host"), 3),
        ('ports: ["$N"]', ("ports", 0, "guest"), 3),
        ('ports: [{guest: "$N"}]', ("ports", 0, "guest"), 3),
        ('endpoints: [{host: a.b, port: "$N"}]', ("endpoints", 0, "port"), 3),
        ('endpoints: [{host: a.b, deny: "$T"}, a.b.c]', ("endpoints", 0, "deny"), True),
        ('agent: {command: sh, env: {X: "$N"}}', ("agent", "env", "X"), "3"),
        ('agent: {command: sh, env: {X: "$T"}}', ("agent", "env", "X"), "true"),
        ('services: {a: {image: "x:$N", init: "$T"}}', ("services", "a", "init"), True),
        ('services: {a: {image: x, deploy: {replicas: "$N"}}}', ("services", "a", "deploy", "replicas"), 3),
        ('services: {a: {image: x, environment: {X: "$N"}}}', ("services", "a", "environment", "X"), "3"),
        ('services: {a: {image: x, environment: {X: "$Z"}}}', ("services", "a", "environment", "X"), "007"),
    ],
)
def test_a_number_is_one_where_one_is_wanted(tmp_path: Path, body: str, path: tuple[Any, ...], expected: Any) -> None:
    value: Any = load(tmp_path, body, N="3", T="true", Z="007").sandbox
    for key in path:
        value = getattr(value, key) if hasattr(value, str(key)) and isinstance(key, str) else value[key]
    assert value == expected
    assert type(value) is type(expected) or isinstance(value, str)


def test_what_is_no_number_is_refused_in_its_place(tmp_path: Path) -> None:
    assert "2:17: machine.cpus: must be a whole number, got 'many'" in problems(
        tmp_path, 'machine: {cpus: "$N"}', N="many"
    )


@pytest.mark.parametrize(
    "body",
    [
        "setup: ['echo $HOME ${X:-y} $(date) $5']",
        "setup: [{run: 'echo $HOME $$'}]",
        "agent: {command: [sh, -c, 'echo $HOME']}",
        "agent: {command: 'sh $X', args: ['${Y}']}",
        "agents: {a: {command: [sh, $X], args: [$Y], setup: ['echo $Z']}}",
        "x-notes: costs 5$",
    ],
)
def test_what_the_guests_shell_reads_keeps_its_dollars(tmp_path: Path, body: str) -> None:
    loaded = load(tmp_path, body, HOME="/home/me", X="x", Y="y", Z="z")
    assert loaded.variables == {}
    assert "/home/me" not in repr(loaded.sandbox)


def test_the_environment_of_a_setup_step_is_interpolated(tmp_path: Path) -> None:
    step = load(tmp_path, "setup: [{run: 'echo $V', env: {V: $A}}]", A="1").sandbox.setup[0]
    assert (step.run, step.env) == ("echo $V", {"V": "1"})


def test_keys_are_not_interpolated(tmp_path: Path) -> None:
    assert "must be a variable's name" in problems(tmp_path, "agent: {command: sh, env: {$A: x}}", A="B")


def test_a_variable_that_nobody_set_is_a_problem_with_a_hint(tmp_path: Path) -> None:
    text = problems(tmp_path, "mounts: ['$DATA:/data']")
    assert "2:11: mounts[0]: the variable DATA is not set" in text
    assert "hint: set it, or write ${DATA:-default}" in text
    assert text.count("mounts[0]") == 1, "one problem, not also one about the empty text"


def test_in_services_it_is_an_empty_text_and_a_warning_as_in_compose(tmp_path: Path) -> None:
    loaded = load(tmp_path, "services: {a: {image: localhost/x, environment: {P: $PW}}}")
    assert loaded.sandbox.services["a"]["environment"]["P"] == ""
    (warning,) = loaded.warnings
    assert warning.severity == "warning"
    assert "warning: services.a.environment.P: the variable PW is not set" in warning.render()


def test_the_writers_own_message_is_shown(tmp_path: Path) -> None:
    assert "the variable TAG is not set: which release?" in problems(
        tmp_path, "services: {a: {image: 'x:${TAG:?which release?}'}}"
    )


def test_a_secret_cannot_be_interpolated(tmp_path: Path) -> None:
    body = "secrets: {github: {env: GH_TOKEN}}\nendpoints: [{host: api.github.com, secret: github}]\n"
    text = problems(tmp_path, body + "agent: {command: sh, env: {T: $GH_TOKEN}}", GH_TOKEN="ghp_real")
    assert "agent.env.T: GH_TOKEN is the value of secrets.github, which must not enter the machine" in text
    assert "ghp_real" not in text
    text = problems(tmp_path, body + "services: {a: {image: x, environment: ['T=${GH_TOKEN:-}']}}")
    assert "services.a.environment[0]: GH_TOKEN is the value of" in text


def test_a_secret_cannot_be_interpolated_by_way_of_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=${GH_TOKEN}\nB=x${A}\n")
    body = "secrets: {github: {env: GH_TOKEN}}\nendpoints: [{host: api.github.com, secret: github}]\n"
    text = problems(tmp_path, body + "agent: {command: sh, env: {T: $B}}", GH_TOKEN="ghp_real")
    assert "agent.env.T: GH_TOKEN is the value of secrets.github" in text
    assert "ghp_real" not in text


def test_what_the_env_file_reads_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=${USER_S}-${B}\nUNREAD=${OTHER}\n")
    loaded = load(tmp_path, "agent: {command: sh, env: {T: $A}}", USER_S="me", OTHER="x")
    assert loaded.variables == {"A": ".env", "USER_S": "environment", "B": ".env"}


def test_secrets_themselves_are_not_interpolated(tmp_path: Path) -> None:
    text = problems(tmp_path, "secrets: {github: {env: '${WHICH}'}}", WHICH="GH_TOKEN")
    assert "secrets.github.env: secrets are not interpolated" in text


def test_a_value_is_never_shown_in_a_message_of_another_place(tmp_path: Path) -> None:
    text = problems(tmp_path, "agent: {command: sh, env: {A: $PW}}\nmachine: {cpus: 0}", PW="hunter2")
    assert "hunter2" not in text


def test_a_file_of_variables_that_is_not_utf8_is_told_with_its_place_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"# one\nA=\xe9t\xe9\n")
    text = problems(tmp_path, "name: ${A}\nmachine: {memory: '${B}'}")
    assert text == ".env:2:3: the file is not UTF-8: byte 0xe9 cannot be read\n  hint: save it as UTF-8"
