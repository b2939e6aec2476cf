"""`sandbox apply`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import json_option, name_option

if TYPE_CHECKING:
    from engine.clones.applying import Step
    from engine.clones.changes import Change
    from engine.lifecycle.clones import Looked


@click.command(
    "apply",
    epilog="""\b
Examples:
  sandbox apply --check      what would be done, and what would be left alone
  sandbox apply              take over all that has changed
  sandbox apply src README.md
  sandbox apply -i           look at each file, and decide
  sandbox apply .github/workflows/test.yml    a file that is held back unless it is named
""",
)
@click.option("-i", "--interactive", is_flag=True, help="Show the changes of each file, and ask.")
@click.option("--check", is_flag=True, help="Only say what would be done.")
@name_option
@json_option("What was done with each file, as one JSON object.")
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path())
def command(interactive: bool, check: bool, name: str | None, as_json: bool, paths: tuple[str, ...]) -> int:
    """Take changes of a private copy (`mode: clone`) over into the directory that it was made of.

    All of them are taken over, or none. A file that has changed here, too, is merged as git merges; where both have
    changed the same lines, nothing is applied. Hooks, CI files, settings of editors and agents, and the Sandboxfile are
    held back unless they are named, and links that lead out of the directory are refused.
    """
    from engine.cli.running import run
    from engine.errors import EngineError
    from engine.lifecycle.clones import apply, choose_changes, look_at_clones, plan, scratch
    from engine.lifecycle.selection import open_layout

    if interactive and not sys.stdin.isatty():
        raise EngineError("nobody can be asked without a terminal", hint="name the files instead", exit_code=2)
    told: list[dict[str, Any]] = []
    with scratch() as directory:
        sandbox, found = run(look_at_clones(open_layout(), name, directory))
        plans = []
        for one, chosen, named in choose_changes(found, paths):
            if interactive:
                chosen = tuple(change for change in chosen if _ask(one, change))
                named = [change.path for change in chosen]  # each was looked at
            plans.append((one, plan(one, chosen, named)))
        if not check:
            apply(plans)
        for one, steps in plans:
            told.append({"source": one.point.source, "target": one.point.target, "files": [_row(s) for s in steps]})
            if not as_json:
                _tell(steps, check)
    if as_json:
        click.echo(json.dumps({"version": 1, "sandbox": sandbox, "applied": not check, "clones": told}, indent=2))
    return int(check and any(row["action"] == "conflict" for one in told for row in one["files"]))


def _ask(looked: Looked, change: Change) -> bool:
    """Show the change; whether the user takes it over. `q` ends the command without having done anything."""
    from engine.cli.commands.diff import show_diff
    from engine.clones.comparison import compare
    from sandboxfile.diagnostics import printable

    show_diff(compare(looked.changes, [change]))
    answer = click.prompt(
        f"Take over {printable(change.path)}?", type=click.Choice(["y", "n", "q"]), default="n", err=True
    )
    if answer == "q":
        raise click.Abort
    return bool(answer == "y")


def _tell(steps: list[Step], check: bool) -> None:
    from engine.report.columns import align
    from sandboxfile.diagnostics import printable

    done = [step for step in steps if step.acts]
    rows = [(_word(step), printable(step.change.path), printable(step.why)) for step in steps if step.action != "same"]
    if rows:
        click.echo(align(rows, indent="  "))
    files = "1 file" if len(done) == 1 else f"{len(done)} files"
    click.echo(f"{files} would be written" if check else f"{files} written")
    if any(step.action == "held back" for step in steps):
        click.echo("what is held back is taken over when it is named: `sandbox apply PATH`", err=True)


def _word(step: Step) -> str:
    return {"write": step.change.word, "remove": "gone", "merge": "merged"}.get(step.action, step.action)


def _row(step: Step) -> dict[str, Any]:
    return {"path": step.change.path, "change": step.change.word, "action": step.action, "why": step.why or None}
