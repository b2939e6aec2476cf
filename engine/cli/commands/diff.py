"""`sandbox diff`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import json_option, name_option

if TYPE_CHECKING:
    from engine.lifecycle.clones import Looked


@click.command(
    "diff",
    epilog="""\b
Examples:
  sandbox diff               all changes, as git shows them
  sandbox diff --stat        a line for each file
  sandbox diff src tests/a.py
  sandbox diff --json | jq -r '.clones[].changes[].path'
""",
)
@click.option("--stat", "summary", is_flag=True, help="A line for each file, with how much has changed.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 where there are changes, 0 where there are none.")
@name_option
@json_option("The changed paths as one JSON object.")
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path())
def command(summary: bool, exit_code: bool, name: str | None, as_json: bool, paths: tuple[str, ...]) -> int:
    """Show what was changed in a private copy (`mode: clone`), against what was copied.

    What git ignores there is left out. `sandbox apply` takes changes over.
    """
    from engine.cli.running import run
    from engine.clones.comparison import compare
    from engine.lifecycle.clones import choose_changes, look_at_clones, scratch
    from engine.lifecycle.selection import open_layout

    with scratch() as directory:
        sandbox, found = run(look_at_clones(open_layout(), name, directory))
        chosen = [(one, changes) for one, changes, _ in choose_changes(found, paths)]
        if as_json:
            clones = [_to_json(one, changes) for one, changes in chosen]
            click.echo(json.dumps({"version": 1, "sandbox": sandbox, "clones": clones}, indent=2))
        else:
            for one, changes in chosen:
                if len(found) > 1 and changes:
                    click.secho(f"{one.point.source} ({one.point.target}):", bold=True)
                if changes:
                    show_diff(compare(one.changes, changes, summary=summary))
                tell_skipped(one)
    return int(exit_code and any(changes for _, changes in chosen))


def show_diff(text: str) -> None:
    """Print a diff. What is in it is the guest's: nothing of it controls the terminal."""
    from sandboxfile.diagnostics import printable

    for line in text.removesuffix("\n").split("\n"):
        shown = "\t".join(printable(part) for part in line.split("\t"))
        if line.startswith(("diff ", "index ", "--- ", "+++ ", "new file", "deleted file", "similarity", "rename ")):
            click.secho(shown, bold=True)
        elif line.startswith("@@"):
            click.secho(shown, fg="cyan")
        elif line.startswith(("+", "-")):
            click.secho(shown, fg="green" if line.startswith("+") else "red")
        else:
            click.echo(shown)


def tell_skipped(looked: Looked) -> None:
    """Say what of the guest's copy cannot be compared."""
    from sandboxfile.diagnostics import printable

    for name in looked.changes.skipped:
        click.echo(f"left out: {printable(name)}: no file of a project", err=True)


def _to_json(looked: Looked, changes: Any) -> dict[str, Any]:
    rows = [{"path": one.path, "change": one.word, "size": one.after.size if one.after else None} for one in changes]
    point, skipped = looked.point, list(looked.changes.skipped)
    return {"source": point.source, "target": point.target, "changes": rows, "skipped": skipped}
