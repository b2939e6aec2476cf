"""The quick reader of `sandbox exec` against the parser whose help and messages people see."""

from __future__ import annotations

import os

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.cli.commands.exec import command
from engine.cli.exec_call import ExecCall, find_mistake, read_call

WORDS = ["-i", "-t", "-it", "-ti", "-n", "-nshop", "-w", "-w/etc", "-e", "-eA=b", "-u", "-uroot", "-iu", "-itu", "--"]
WORDS += ["--name", "--name=shop", "--env=A=b", "--env", "--user", "--tty", "--interactive", "--workdir", "--workdir="]
WORDS += ["--tt", "--us=root", "--no", "-h", "--help", "-x", "-", "", "shop", "root", "A=b", "HOME", "=", "ls", "-e=A"]


def parse(words: list[str]) -> ExecCall | None:
    """What the command itself makes of them; None for a mistake or for help."""
    try:
        context = command.make_context("exec", list(words))
    except (click.ClickException, click.exceptions.Exit):
        return None
    call = ExecCall(**context.params)
    return None if find_mistake(call) else call


@given(st.lists(st.sampled_from(WORDS), max_size=8))
@example(["-e", "--", "--", "ls"])
@example(["-n", "--", "ls"])
def test_both_read_the_same(words: list[str]) -> None:
    quick = read_call(words)
    assert quick is None or quick == parse(words)


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("-- true", ExecCall(("true",))),
        ("shop -- npm test", ExecCall(("npm", "test"), "shop")),
        ("-u root shop -w / -e A=b -e HOME -- sh -c -- x", ExecCall(("sh", "-c", "--", "x"), "shop", **{
            "workdir": "/", "variables": ("A=b", "HOME"), "user": "root"})),
        ("-in shop --workdir=/w -- cat", ExecCall(("cat",), "shop", interactive=True, workdir="/w")),
    ],
)  # fmt: skip
def test_the_usual_forms_are_read_quickly(words: str, call: ExecCall) -> None:
    assert "HOME" in os.environ
    assert read_call(words.split()) == call == parse(words.split())
