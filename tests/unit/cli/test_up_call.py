"""Calls of `up` that are read without click, and that click would read in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from engine.cli.commands.up import command
from engine.cli.up_call import UpCall, read_up


def by_click(arguments: list[str]) -> dict[str, Any]:
    with click.Context(command) as context:
        command.parse_args(context, list(arguments))
        return context.params


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-d"],
        ["--detach", "--yes"],
        ["-dy"],
        ["-n", "shop"],
        ["-nshop", "-d"],
        ["--name=shop"],
        ["--name", "shop", "."],
        [".", "-d"],
        ["--json"],
        ["--progress", "quiet"],
        ["--progress=auto"],
        ["--timings", "-d", "sub/../sub"],
    ],
)
def test_usual_calls_are_read_as_click_reads_them(arguments: list[str]) -> None:
    call, other = read_up(arguments), by_click(arguments)
    assert call is not None
    assert (call.yes, call.name, call.as_json, call.timings) == tuple(
        other[name] for name in ("yes", "name", "as_json", "timings")
    )
    assert call.detach == (other["detach"] or other["as_json"])
    assert call.path == str(other["path"] or "")
    usual = {"yes", "name", "as_json", "timings", "detach", "path", "progress", "build_in"}
    assert not any(value for name, value in other.items() if name not in usual)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--agent", "claude"],
        ["--recreate"],
        ["--det"],
        ["--js"],
        ["-x"],
        ["--name"],
        ["--detach=1"],
        ["-f", "other.yaml"],
        ["--set", "machine.cpus=4"],
        ["--ask"],
        ["--progress", "plain"],
        ["--keep-failed"],
        ["--unconfined-mounts"],
        ["one", "two"],
    ],
)
def test_every_other_call_is_left_to_click(arguments: list[str]) -> None:
    assert read_up(arguments) is None


def test_a_path_has_one_form() -> None:
    assert read_up(["./"]) == UpCall(path=str(Path("./")))
