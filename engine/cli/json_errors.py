"""Errors of a command that was called with --json: a document on standard output, as `validate --json` prints it."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    import click

    from sandboxfile import Diagnostic

_wanted = False
_common: dict[str, Any] = {}  # what each document of the command has, besides its diagnostics
_FORMAT = ("--format", "json")


def note_json(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """Remember that this process's command was called with --json. A callback of the option."""
    global _wanted
    _wanted = _wanted or value
    return value


def note_format(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """The same for an option --format."""
    note_json(ctx, param, value == "json")
    return value


def note_validity(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """The same for a command whose documents say of which `file` they are and whether it is `valid`, in any case."""
    if value:
        _common.update(file=None, valid=False)
    return note_json(ctx, param, value)


def note_file(file: str) -> None:
    """The `file` of such documents is known."""
    _common.update(file=file)


def note_unread(ctx: click.Context | None) -> None:
    """The same for a command line that could not be read to its end: its mistake may stand before --json."""
    if ctx is None:
        return
    for param in ctx.command.params:
        if param.callback is not None and param.name == "as_json" and "--json" in sys.argv:
            param.callback(ctx, param, True)
        elif param.callback is note_format and ("--format=json" in sys.argv or _FORMAT in pairwise(sys.argv)):
            param.callback(ctx, param, "json")


def is_json_wanted() -> bool:
    """Whether whoever called the command reads JSON."""
    return _wanted


def note_answered() -> None:
    """The document is printed: whoever reads it gets no second one, and further errors are text for people."""
    global _wanted
    _wanted = False
    _common.clear()


def of_file(problems: Iterable[Diagnostic]) -> str:
    """The document for a bad file: it is not `valid`, and these are its `diagnostics`."""
    from engine.cli.validation import to_json

    return json.dumps({"valid": False, "diagnostics": [to_json(problem) for problem in problems]}, indent=2)


def of_error(message: str, details: object, hint: str | None) -> str:
    """The document for any other error: one of `diagnostics`, which has no place in a file, but may have `details`."""
    from engine.cli.validation import error_to_json

    return json.dumps({**_common, "diagnostics": [error_to_json(message, details, hint)]}, indent=2)
