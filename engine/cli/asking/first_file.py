"""Asking the user about a first Sandboxfile, and writing it."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from engine.agents import load_agent
from engine.errors import EngineError
from engine.files import what_else, write_new
from engine.report.columns import align
from engine.report.text import clean_line, cut
from engine.starter.proposals import LISTS, Proposal
from engine.starter.starting import PARTS, Choices, Start, existing, look, write
from engine.starter.templates import Template, list_templates, read_template, template_names
from engine.starter.writing import LOCAL_LAYER, ignore_local_layer, ignores_local_layer
from sandboxfile.diagnostics import did_you_mean
from sandboxfile.load import FILE_NAMES
from sandboxfile.writing.notation import Hand

_MOST_SHOWN = 20
_WIDTH = 60
_QUESTIONS = {"packages": "Install them?", "setup": "Run that once, to prepare the machine?", "services": "Start them?"}
_MOUNTS = "How shall the machine see this directory? rw: live, ro: read-only, clone: a private copy, none: not at all"


@dataclass(frozen=True)
class FirstFileWishes:
    """The options of `init`. Where one is None, the user may be asked."""

    source: Path | None = None
    output: Path | None = None
    mount: str | None = None
    packages: bool | None = None
    setup: bool | None = None
    services: bool | None = None
    gitignore: bool | None = None
    force: bool = False
    dry_run: bool = False
    yes: bool = False
    as_json: bool = False


def make_first_file(template: str | None, path: Path | None, wishes: FirstFileWishes) -> int:
    """Ask what the options leave open, write the file, and show what comes next; return the exit code.

    Raises EngineError, with exit code 2 for bad usage.
    """
    template, path = _sort_arguments(template, path, wishes)
    if template is not None:
        read_template(template)  # an unknown name is an error before anything is asked
    start = look(path, wishes.source, template)
    asks = not (wishes.yes or wishes.as_json) and sys.stdin.isatty() and sys.stderr.isatty()
    replaces = not wishes.dry_run and _may_replace(start, wishes, asks)
    choices = _choose(start, template, wishes, asks)
    text = write(start, choices)
    if wishes.dry_run:
        _show(start, choices, wishes, text)
        return 0
    try:
        write_new(start.path, text, replace=replaces)
    except FileExistsError as error:
        raise EngineError(f"{start.path} has just been made by somebody else") from error
    ignored = _ignore(start, wishes, asks)
    _show(start, choices, wishes, text, ignored=ignored)
    return 0


def _sort_arguments(template: str | None, path: Path | None, wishes: FirstFileWishes) -> tuple[str | None, Path | None]:
    """The template and the path. A single argument may be either."""
    if template is not None and path is None and template not in template_names():
        place = Path(template)
        if os.sep in template or place.is_dir():
            template, path = None, place
    if path is not None and wishes.output is not None:
        raise EngineError("PATH and --output are the same", hint="give one of them", exit_code=2)
    return template, path or wishes.output


def _may_replace(start: Start, wishes: FirstFileWishes, asks: bool) -> bool:
    """Whether there is a file that may be replaced. Raises EngineError when it has to stay."""
    old = existing(start.path)
    if old is None:
        return False
    other = what_else(old)
    already = f"there is a {old} already" + (f", which is {other}" if other else "")
    if other == "a directory":
        raise EngineError(already, hint="remove it, or name another file: -o FILE", exit_code=2)
    if old.name != start.path.name:
        raise EngineError(already, hint=f"remove it, or name another file: -o {old}", exit_code=2)
    if wishes.force:
        return True
    if not asks:
        hint = "--force overwrites it, --print only shows the new one"
        raise EngineError(already, hint=hint, exit_code=2)
    if not click.confirm(f"There is a {clean_line(str(start.path))} already. Overwrite it?", err=True):
        raise EngineError("nothing was written")
    return True


def _choose(start: Start, template: str | None, wishes: FirstFileWishes, asks: bool) -> Choices:
    named = template is not None
    if template is None:
        template = (
            _ask_template(start) if asks and (start.source is None or not start.found.agent) else start.suggestion
        )
    parts = {}
    for part in PARTS:
        wish: bool | None = getattr(wishes, part)
        rows = [proposal for proposal in start.found.proposals if proposal.section == part and proposal.active]
        parts[part] = (
            _ask_part(part, rows) if wish is None and asks and rows and not start.source else wish is not False
        )
    mount = wishes.mount
    # Who names a template has chosen: `up` shows how it sees the directory, and asks.
    if mount is None and asks and start.source is None and not named:
        mount = click.prompt(_MOUNTS, type=click.Choice(["rw", "ro", "clone", "none"]), default="rw", err=True)
    return Choices(template, mount or start.found.mount, parts)


def _ask_template(start: Start) -> str:
    templates = sorted(list_templates(), key=lambda item: _rank(item, start.suggestion))
    click.echo("What is to work in the machine?", err=True)
    rows = [(f"{number})", item.name, item.summary) for number, item in enumerate(templates, 1)]
    click.echo(align(rows, "  "), err=True)
    names = [item.name for item in templates]

    def read(answer: str) -> str:
        answer = answer.strip()
        if answer.isdecimal() and 1 <= int(answer[:4]) <= len(names):
            return names[int(answer[:4]) - 1]
        if answer not in names:
            raise click.UsageError(
                f"there is no {clean_line(answer)!r} here; {did_you_mean(answer, names) or 'a number or a name'}"
            )
        return answer

    return str(click.prompt("Number or name", default=start.suggestion, value_proc=read, err=True))


def _rank(template: Template, suggestion: str) -> tuple[bool, bool]:
    """What works at once comes first: the suggestion, and agents whose credential this user has in a variable."""
    credentials = load_agent(template.name).credentials.values() if template.is_agent else ()
    at_hand = any(name in os.environ for credential in credentials for name in credential.source.env)
    return template.name != suggestion, not at_hand


def _ask_part(part: str, rows: list[Proposal]) -> bool:
    click.echo(f"{part.capitalize()} that this project seems to need:", err=True)
    click.echo(align([_row(row)[1:] for row in rows[:_MOST_SHOWN]], "  "), err=True)
    return click.confirm(_QUESTIONS[part], default=True, err=True)


def _ignore(start: Start, wishes: FirstFileWishes, asks: bool) -> bool:
    """Add the local layer to .gitignore where the user wants that; return whether it was added."""
    project = start.path.absolute().parent
    ignores = ignores_local_layer(project)
    if wishes.gitignore and ignores is None:
        click.echo(f"note: {LOCAL_LAYER} is not added: there is no .gitignore that can be read", err=True)
    if wishes.gitignore is False or ignores is not False:
        return False
    text = f"Add {LOCAL_LAYER}, for settings of your own, to .gitignore?"
    if wishes.gitignore or (asks and click.confirm(text, default=True, err=True)):
        ignore_local_layer(project)
        return True
    return False


def _show(start: Start, choices: Choices, wishes: FirstFileWishes, text: str, *, ignored: bool = False) -> None:
    if wishes.as_json:
        click.echo(json.dumps(_to_json(start, choices, wishes, text, ignored), indent=2))
        return
    if wishes.dry_run:
        click.echo(text, nl=False)
    else:
        shown = os.path.relpath(start.path)
        click.echo(f"wrote {clean_line(shown)} from {_origin(start, choices)}")
    _show_findings(start, err=wishes.dry_run)  # standard output has the text of the file then
    if not wishes.dry_run:
        _show_next(start, text, ignored)


def _origin(start: Start, choices: Choices) -> str:
    template = f"the template {choices.template}"
    return f"{clean_line(os.path.relpath(start.source))} and {template}" if start.source else template


def _show_findings(start: Start, *, err: bool) -> None:
    """Show what was put into the file, what the user should know, and what could not be carried over."""
    rows = sorted((_row(proposal) for proposal in start.found.proposals if proposal.active), key=lambda row: row[0])
    if rows and not err:
        click.echo(align(rows[:_MOST_SHOWN], "  "))
        if len(rows) > _MOST_SHOWN:
            click.echo(f"  and {len(rows) - _MOST_SHOWN} more")
    off = sorted((_row(proposal) for proposal in start.found.proposals if not proposal.active), key=lambda row: row[0])
    if off:
        click.echo("commented out, for you to decide:", err=err)
        click.echo(align(off[:_MOST_SHOWN], "  "), err=err)
    for note in start.found.notes:
        click.echo(f"note: {clean_line(note)}", err=err)
    if start.found.left_out:
        read = start.source or start.container
        assert read is not None
        click.echo(f"not carried over from {clean_line(os.path.relpath(read))}:", err=err)
        lines = [
            (
                f"{item.position.line}:{item.position.column}" if item.position else "",
                clean_line(item.path),
                clean_line(item.reason),
            )
            for item in start.found.left_out
        ]
        click.echo(align(lines, "  "), err=err)


def _row(proposal: Proposal) -> tuple[str, str, str]:
    value = proposal.value
    shown = value["run"] if isinstance(value, dict) and "run" in value else Hand().flow(value)
    keys = ".".join(proposal.path[1:])
    if proposal.section not in LISTS and keys:
        shown = f"{keys}: {shown}"
    return proposal.section, cut(clean_line(str(shown)), _WIDTH), clean_line(proposal.remark)


def _show_next(start: Start, text: str, ignored: bool) -> None:
    from sandboxfile import Inputs, SandboxfileError, parse

    if ignored:
        click.echo(f"added {LOCAL_LAYER} to .gitignore")
    try:
        sandbox = parse(text, start.path, Inputs(environment=os.environ)).sandbox
    except SandboxfileError as error:  # the user has a local layer, which is wrong
        click.echo(f"note: {clean_line(error.brief)}: `sandbox validate` has more")
        return
    for name, secret in sandbox.secrets.items():
        if secret.env and secret.env not in os.environ:
            click.echo(f"note: its secret {name}: `sandbox secret set {name}`, or set {secret.env} in your environment")
    where = _named(start.path)
    rows = [(f"sandbox validate{where}", "check it when you have edited it"), (f"sandbox up{where}", "start it")]
    click.echo("next:")
    click.echo(align(rows, "  "))


def _named(path: Path) -> str:
    """What a command needs to find the file from here: nothing, a directory, or its own name."""
    if path.name not in FILE_NAMES:
        return f" {shlex.quote(os.path.relpath(path))}"
    directory = os.path.relpath(path.absolute().parent)
    return "" if directory == "." else f" {shlex.quote(directory)}"


def _to_json(start: Start, choices: Choices, wishes: FirstFileWishes, text: str, ignored: bool) -> dict[str, Any]:
    """The result as a JSON value. Line and column count from 1, and are null for a thing without a place."""
    found = start.found
    return {
        "file": str(start.path.absolute()),
        "written": not wishes.dry_run,
        "template": choices.template,
        "source": str(start.source.absolute()) if start.source else None,
        "proposals": [
            {"path": list(item.path), "value": item.value, "remark": item.remark, "active": item.active}
            for item in found.proposals
        ],
        "notes": found.notes,
        "left_out": [
            {
                "path": item.path,
                "line": item.position.line if item.position else None,
                "column": item.position.column if item.position else None,
                "reason": item.reason,
            }
            for item in found.left_out
        ],
        "gitignore": ignored,
        **({"text": text} if wishes.dry_run else {}),
    }
