"""What users of docker, compose and lima type: served, or answered with the way."""

from __future__ import annotations

import importlib
import json
import re

import click
import pytest
from cli_world import CommandLine, start_fake

from engine.cli.habits import ALIASES, OPTIONS, WAYS
from engine.cli.names import COMMANDS, module_of
from engine.state.layout import Layout


def test_ps_is_ls(sandbox: CommandLine) -> None:
    for alias in ALIASES:
        assert sandbox(alias, "--json") == sandbox("ls", "--json")


def test_version_is_a_command(sandbox: CommandLine) -> None:
    assert sandbox("version") == sandbox("--version")
    assert sandbox("help", "up") == sandbox("up", "--help")


def test_a_group_alone_shows_its_help(sandbox: CommandLine) -> None:
    groups = [n for n in COMMANDS if isinstance(importlib.import_module(module_of(n)).command, click.Group)]
    assert {"add", "endpoints", "secret", "cache", "trust"} <= set(groups)
    for name in groups:
        ran = sandbox(name)
        assert (ran.code, ran.err) == (0, ""), name
        assert ran.out == sandbox(name, "--help").out and len(ran.out.splitlines()) > 10


WORDS = {
    "check": "sandbox validate",
    "lint": "sandbox validate",
    "test": "sandbox exec",
    "logout": "sandbox secret rm",
    "schema": "sandbox config --schema",
    "agents": "sandbox init --list",
    "agent": "sandbox init --list",
    "gc": "sandbox cache prune",
    "enter": "sandbox shell",
}
TYPED = {
    "cp -r a shop:/b": "copies directories as well",
    "cp -a a shop:/b": "copies directories as well",
    "cache prune -f": "asks nothing",
    "cache prune --force": "asks nothing",
    "cache prune -a": "--all",
    "plan --format json": "--json",
    "doctor --format json": "--json",
    "secret ls --format json": "--json",
    "validate --format json": "--json",
    "ls --format json": "--json",
}


@pytest.mark.parametrize("word", WORDS)
def test_words_that_newcomers_have_typed(sandbox: CommandLine, word: str) -> None:
    ran = sandbox(word)
    assert ran.code == 2 and f"There is no command {word!r}: " in ran.err and f"`{WORDS[word]}" in ran.err


@pytest.mark.parametrize("line", TYPED)
def test_options_that_newcomers_have_typed(sandbox: CommandLine, line: str) -> None:
    ran = sandbox(*line.split())
    assert ran.code == 2 and "There is no option '-" in ran.err and TYPED[line] in ran.err.splitlines()[0], ran.err


@pytest.mark.parametrize("word", ["halt", "rm", "top", "port", "events"])
def test_the_way_is_named(sandbox: CommandLine, word: str) -> None:
    ran = sandbox(word, "web")
    assert (ran.code, ran.out) == (2, "") and f"There is no command '{word}': " in ran.err


def test_every_way_leads_to_a_command() -> None:
    options = {f"{command} {option}": way for command, ways in OPTIONS.items() for option, way in ways.items()}
    for word, way in (WAYS | options).items():
        assert way.endswith("."), word
        assert set(re.findall("`sandbox ([a-z-]+)", way)) <= set(COMMANDS), way
    assert set(ALIASES.values()) <= set(COMMANDS) and not {*ALIASES, *WAYS} & set(COMMANDS)
    assert {command.split()[0] for command in OPTIONS} <= set(COMMANDS)


def test_options_of_other_tools_have_a_way_where_ours_lack_them(sandbox: CommandLine) -> None:
    for command, ways in OPTIONS.items():
        ours = {name for param in _command(command).params for name in (*param.opts, *param.secondary_opts)}
        assert not ours & set(ways), command
    ran = sandbox("up", "--build", "-d")
    assert ran.code == 2 and "There is no option '--build': `sandbox up` builds what has changed" in ran.err
    assert "No such option '--bild'" in sandbox("up", "--bild").err


def _command(words: str) -> click.Command:
    name, *rest = words.split()
    command: click.Command = importlib.import_module(module_of(name)).command
    return command.commands[rest[0]] if rest and isinstance(command, click.Group) else command


@pytest.mark.usefixtures("fake")
def test_exec_without_its_dashes(sandbox: CommandLine, me: str) -> None:
    ran = sandbox("exec", "-u", me, "web", "ls", "-l")
    assert ran.code == 2 and "`sandbox exec -- docker compose exec web ls -l`" in ran.err
    ran = sandbox("exec", "-u", me, "shop", "ls")
    assert ran.code == 2 and "`sandbox exec shop -- ls`" in ran.err
    assert sandbox("exec", "-u", me, "echo", "web").out == "web\n"


def test_restart(sandbox: CommandLine, layout: Layout) -> None:
    with start_fake(sandbox.forks, layout, sandbox.project, "echo", "--echo"):
        asked = json.loads(sandbox("restart", "web").out)
        assert asked["user"] == "root" and asked["argv"][3:] == ["-f /compose.yaml", "web"]
        assert json.loads(sandbox("restart", "-n", "echo").out)["argv"][4:] == ["db", "web"]
        ran = sandbox("restart", "wbe")
        assert ran.code == 2 and "did you mean 'web'?" in ran.err
        ran = sandbox("restart", "echo")
        assert ran.code == 2 and "`sandbox down echo`, then `sandbox up`" in ran.err


def test_stats_of_none_and_of_a_guest_that_makes_no_sense(sandbox: CommandLine, layout: Layout) -> None:
    ran = sandbox("stats")
    assert (ran.code, ran.out) == (0, "") and "no sandbox runs" in ran.err
    assert sandbox("stats", "nobody").code == 1
    with start_fake(sandbox.forks, layout, sandbox.project, "echo", "--echo"):
        [row] = json.loads(sandbox("stats", "--json").out)
        assert row == {"name": "echo", "cpu_weight": 100, "problem": "the guest's answer is not to be understood"}
        assert "not to be understood" in sandbox("stats", "echo").out


def test_lines_are_no_name(sandbox: CommandLine) -> None:
    assert "the last 10 lines are --tail 10" in sandbox("logs", "-n", "10").err


@pytest.mark.parametrize(
    "name", ["sandboxfile.yaml", "Sandboxfile", "Sandboxfile.json", "sandbox.yml", "SandBoxFile.yaml"]
)
def test_a_file_of_nearly_the_right_name(sandbox: CommandLine, name: str) -> None:
    sandbox.file('version: "1"\n', name)
    ran = sandbox("validate")
    assert ran.code == 2 and f"there is {name}: rename it to Sandboxfile.yaml, or name it here" in ran.err
    assert sandbox("validate", name).code == 0
