"""What users of docker, compose and lima type: served, or answered with the way."""

from __future__ import annotations

import re

import pytest
from cli_world import CommandLine

from engine.cli.habits import ALIASES, WAYS
from engine.cli.names import COMMANDS


def test_ps_is_ls(sandbox: CommandLine) -> None:
    for alias in ALIASES:
        assert sandbox(alias, "--json") == sandbox("ls", "--json")


def test_version_is_a_command(sandbox: CommandLine) -> None:
    assert sandbox("version") == sandbox("--version")


@pytest.mark.parametrize("word", ["stop", "rm", "restart", "stats"])
def test_the_way_is_named(sandbox: CommandLine, word: str) -> None:
    ran = sandbox(word, "web")
    assert (ran.code, ran.out) == (2, "") and f"There is no command '{word}': " in ran.err


def test_every_way_leads_to_a_command() -> None:
    for word, way in WAYS.items():
        assert way.endswith("."), word
        assert set(re.findall("`sandbox ([a-z-]+)", way)) <= set(COMMANDS), way
    assert set(ALIASES.values()) <= set(COMMANDS) and not {*ALIASES, *WAYS} & set(COMMANDS)
