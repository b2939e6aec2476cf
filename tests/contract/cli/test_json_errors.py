"""With --json, whatever goes wrong is a document on standard output, whose diagnostics are those of `validate`."""

from __future__ import annotations

import importlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli_world import DEADLINE_S, CommandLine

from engine.cli.names import COMMANDS, module_of

BAD = 'version: "1"\nagent: {command: [bash]}\nfoo: 1\n'
# Commands that read the project's file, as one calls them.
READERS = [
    "add package jq",
    "build -y",
    "add endpoint example.com",
    "config",
    "config --origins",
    "graph",
    "plan",
    "secret ls",
    "trust show",
    "up -y",
    "run -p hello",
    "validate",
]
# The others, with something that goes wrong; "" where nothing can.
OTHERS = {
    "apply": "apply --name nobody",
    "cache ls": "",
    "cache prune": "cache prune --size lots",
    "cache rm": "cache rm nothing",
    "cache verify": "cache verify nothing",
    "cache export": "cache export bundle nobody",
    "cache import": "cache import nothing",
    "diff": "diff --name nobody",
    "doctor": "",
    "endpoints ls": "",
    "endpoints show": "endpoints show nowhere",
    "init": "init --from nowhere.yaml",
    "journal": "journal nobody",
    "allow": "allow example.com",
    "deny": "deny example.com",
    "fork": "fork nobody",
    "ls": "",
    "pause": "pause nobody",
    "resume": "resume nobody",
    "snapshot": "snapshot label nobody",
    "stop": "stop nobody",
    "start": "start nobody",
    "sync": "sync --name nobody",
    "stats": "stats nobody",
    "trust ls": "",
}


def leaves(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for word, inner in command.commands.items():
            yield from leaves(inner, f"{name} {word}")
    else:
        yield name, command


def with_json() -> set[str]:
    """All commands that have --json."""
    found = [leaf for name in COMMANDS for leaf in leaves(importlib.import_module(module_of(name)).command, name)]
    return {name for name, command in found if any("--json" in param.opts for param in command.params)}


def test_every_command_with_json_is_here() -> None:
    known = {*OTHERS, *(" ".join(call.split()[:2]) for call in READERS), *(call.split()[0] for call in READERS)}
    assert with_json() - known == {"add mount", "add service", "add port", "add secret"}, "these are as `add package`"


@pytest.mark.parametrize("call", READERS)
def test_a_bad_file(sandbox: CommandLine, call: str) -> None:
    sandbox.file(BAD)
    as_text, ran = sandbox(*call.split()), sandbox(*call.split(), "--json")
    document = json.loads(ran.out)
    [row] = document["diagnostics"]
    assert ran.code == as_text.code == 2 and document["valid"] is False and ran.err == ""
    assert row == json.loads(sandbox("validate", "--json").out)["diagnostics"][0] | {"line": row["line"]}
    assert row["message"] in as_text.err and row["hint"] in as_text.err


@pytest.mark.parametrize("call", [call for call in OTHERS.values() if call])
def test_another_error(sandbox: CommandLine, call: str) -> None:
    ran = sandbox(*call.split(), "--json")
    [row] = json.loads(ran.out)["diagnostics"]
    assert ran.code in (1, 2) and row["severity"] == "error" and row["file"] is row["line"] is None
    assert row["message"] in ran.err, "whoever looks on sees it as well"
    assert sandbox(*call.split()).out == ""


def test_a_mistake_of_the_command_line(sandbox: CommandLine) -> None:
    for argv in (("plan", "--bogus", "--json"), ("plan", "--json", "--bogus"), ("up", "--json", "--ask")):
        ran = sandbox(*argv)
        assert ran.code == 2 and json.loads(ran.out)["diagnostics"][0]["message"] in ran.err
    assert sandbox("plan", "--bogus").out == ""


def test_validate_always_says_whether_the_file_is_valid(sandbox: CommandLine) -> None:
    """Also where there is no file, or the command line is wrong: whoever asks for `valid` gets an answer."""
    for argv in ((), ("nope.yaml",), ("--bogus",), ("--set", "x")):
        ran = sandbox("validate", *argv, "--json")
        document = json.loads(ran.out)
        assert ran.code == 2 and set(document) == {"file", "valid", "diagnostics"}, argv
        assert document["valid"] is False and document["diagnostics"][0]["message"], argv
    sandbox.file(BAD)
    document = json.loads(sandbox("validate", "--json").out)
    assert document["valid"] is False and document["file"] == str(sandbox.project / "Sandboxfile.yaml")


def test_the_format_json_is_the_same_as_the_option(sandbox: CommandLine) -> None:
    for text in (None, BAD):
        if text is not None:
            sandbox.file(text)
        for argv in (("--format", "json"), ("--format=json",), ("--format", "json", "--bogus")):
            ran = sandbox("graph", *argv)
            assert ran.code == 2 and json.loads(ran.out)["diagnostics"], argv
        assert sandbox("graph", "--format", "dot").out == ""


def test_no_room_for_the_document(sandbox: CommandLine) -> None:
    sandbox.file(BAD)
    for argv in (("plan", "--json"), ("stats", "nobody", "--json")):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                sandbox.argv(*argv),
                cwd=sandbox.project,
                env=sandbox.environment(),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=DEADLINE_S,
            )
        assert done.returncode in (1, 2) and "Traceback" not in done.stderr


def test_validate_says_the_same_keys_without_a_file(sandbox: CommandLine) -> None:
    ran = sandbox("validate", "--json", "nowhere")
    told = json.loads(ran.out)
    assert ran.code == 2 and (told["file"], told["valid"]) == ("nowhere", False)
    assert "nowhere" in told["diagnostics"][0]["message"] and told["diagnostics"][0]["message"] in ran.err


def test_a_format_of_json_has_json_errors_too(sandbox: CommandLine) -> None:
    sandbox.file(BAD)
    assert sandbox("graph", "--format", "json").out == sandbox("graph", "--json").out != ""
