"""Errors of a command that was called with --json: a document on standard output, as `validate --json` prints it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import click

    from sandboxfile import Diagnostic

_wanted = False


def note_json(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """Remember that this process's command was called with --json. A callback of the option."""
    global _wanted
    _wanted = _wanted or value
    return value


def note_unread(ctx: click.Context | None) -> None:
    """The same for a command line that could not be read to its end: its mistake may stand before --json."""
    if ctx is not None and any(param.name == "as_json" for param in ctx.command.params):
        note_json(ctx, ctx.command.params[0], "--json" in sys.argv)


def is_json_wanted() -> bool:
    """Whether whoever called the command reads JSON."""
    return _wanted


def note_answered() -> None:
    """The document is printed: whoever reads it gets no second one, and further errors are text for people."""
    global _wanted
    _wanted = False


def of_file(problems: Iterable[Diagnostic]) -> str:
    """The document for a bad file: it is not `valid`, and these are its `diagnostics`."""
    from engine.cli.validation import to_json

    return json.dumps({"valid": False, "diagnostics": [to_json(problem) for problem in problems]}, indent=2)


def of_error(message: str, details: object, hint: str | None) -> str:
    """The document for any other error: one of `diagnostics`, which has no place in a file, but may have `details`."""
    from engine.cli.validation import error_to_json

    return json.dumps({"diagnostics": [error_to_json(message, details, hint)]}, indent=2)
