"""Changing a file for `add`, and showing what was changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from engine.lifecycle.edit import Edit, Edited
    from sandboxfile.writing.additions import Addition, AddResult, WrittenValue


def add(path: Path | None, additions: Sequence[Addition], *, dry_run: bool, as_json: bool) -> None:
    """Change the file at `path` and show the change, or that there is nothing to change.

    Raises SandboxfileError, and leaves the file alone, when it would not be valid afterwards.
    """
    from engine.lifecycle.edit import Edited

    edited = Edited.choose(path)
    edit = edited.add(additions, write=not dry_run)
    if as_json:
        click.echo(json.dumps(_to_json(edited, edit.outcome, dry_run), indent=2))
        return
    if dry_run:
        click.echo(_diff(edit.before, edit.outcome.text, edited.label), nl=False)
    else:
        _tell(edited, edit)
    from engine.cli.showing.findings import show

    show(edit.warnings, edited.main)


def _tell(edited: Edited, edit: Edit) -> None:
    from engine.lifecycle.edit import is_up

    tell_entries(edited, edit)
    if edited.before is None:
        click.echo(f"{edited.label} is new: it is for this machine only, keep it out of version control")
    if edit.outcome.added and is_up():
        click.echo("`sandbox up` applies it to the running sandbox")


def tell_entries(edited: Edited, edit: Edit) -> None:
    """A line for each entry, with its place in the file."""
    for entry in edit.outcome.added:
        click.echo(f"{edited.label}:{entry.line}: added {_words(entry)}")
    for entry in edit.outcome.present:
        click.echo(f"{edited.label}:{entry.line}: already there: {_words(entry)}")


def _to_json(edited: Edited, outcome: AddResult, dry_run: bool) -> dict[str, Any]:
    def rows(entries: Sequence[WrittenValue]) -> list[dict[str, Any]]:
        return [{"path": list(entry.path), "line": entry.line, "value": entry.value} for entry in entries]

    entries = {"added": rows(outcome.added), "present": rows(outcome.present)}
    return {"file": str(edited.file), "written": bool(outcome.added) and not dry_run, **entries}


def _words(entry: WrittenValue) -> str:
    """The entry in one line, such as `endpoints: npm` or `services.redis`."""
    from engine.report.text import clean_line
    from sandboxfile.positions import render_path
    from sandboxfile.writing.notation import Hand

    if isinstance(entry.path[-1], str):
        return clean_line(render_path(entry.path))
    return clean_line(f"{render_path(entry.path[:-1])}: {Hand().flow(entry.value)}")


def _diff(before: str, after: str, label: str) -> str:
    import difflib

    from engine.report.text import clean_line

    # The lines are cleaned, since a file may hold characters that control the terminal.
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), label, label, lineterm="")
    return "".join(f"{clean_line(line)}\n" for line in lines)
