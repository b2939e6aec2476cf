"""`sandbox secret`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.options import json_option

if TYPE_CHECKING:
    from engine.lifecycle.secret import Candidate, Kept, Known
    from sandboxfile import Loaded

_LONGEST_LINE = 4095  # of a terminal of Linux: what is pasted beyond it is lost without a word


@click.group(
    "secret",
    invoke_without_command=True,
    epilog="""\b
Examples:
  sandbox secret set anthropic            asks for the key, which is not shown
  op read op://Private/GitHub/token | sandbox secret set github
  sandbox secret import .env
  sandbox secret check anthropic          does the vendor take it?
  sandbox secret ls
""",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Your credentials. A sandbox never has them: it has placeholders, and the network gateway puts the real value into
    the header of requests to the hosts that Sandboxfile.yaml sends it to.

    They are kept in the keyring of this system, or where there is none in a file that you alone can read. Where you
    have them elsewhere, name the place in secrets.yaml in your configuration (docs/secrets.md): a variable, a file, or
    a command such as `gh auth token`.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from engine.errors import EngineError
    from engine.lifecycle.secret import store_of
    from engine.lifecycle.selection import open_layout

    try:
        return [name for name in store_of(open_layout()).entries() if name.startswith(incomplete)]
    except (EngineError, OSError):
        return []  # no place to say so while a line is being typed


@command.command(
    "set",
    epilog="""\b
Examples:
  sandbox secret set github
  gh auth token | sandbox secret set github
  sandbox secret set github --from-env GH_TOKEN
""",
)
@click.option("--from-env", "variable", metavar="VARIABLE", help="Take the value of this variable.")
@click.option(
    "--from-file", "file", metavar="FILE", type=click.Path(path_type=Path), help="Take the content of this file."
)
@click.argument("name", shell_complete=_complete)
@click.argument("rest", metavar="[-]", nargs=-1, type=click.UNPROCESSED)
def set_command(name: str, rest: tuple[str, ...], variable: str | None, file: Path | None) -> None:
    """Keep a value under a name, in the place of an earlier one. Running sandboxes have it from the next request on.

    The value is asked for and not shown; with `-`, or where standard input is no terminal, it is read from there. It is
    no argument: others see those in the list of processes, and the shell remembers them.
    """
    from engine.lifecycle.secret import keep
    from engine.lifecycle.selection import open_layout
    from engine.secrets.core_dumps import forbid_core_dumps
    from engine.secrets.store import check_name

    if rest not in ((), ("-",)):  # not click's own complaint, which repeats what it did not expect
        raise click.UsageError("the value is no argument: it is asked for, or read from standard input with `-`")
    if sum((bool(rest), variable is not None, file is not None)) > 1:
        raise click.UsageError("-, --from-env and --from-file exclude each other")
    forbid_core_dumps()
    check_name(name)
    value, label = read_value(name, bool(rest), variable, file)
    kept = keep(open_layout(), name, value, label)
    tell_kept(name, kept)


def tell_kept(name: str, kept: Kept) -> None:
    """Show where a value is kept, and who uses it."""
    alone = ", which only you can read: this system has no keyring" if kept.place == "file" else ""
    click.echo(f"kept {name} in {kept.where}{alone}")
    if kept.used_by:
        click.echo(f"used by {', '.join(kept.used_by)}")
    for sandbox in kept.otherwise:
        click.echo(f"{sandbox} holds the placeholder of another kind of credential: `sandbox up` renews it", err=True)


def read_value(name: str, piped: bool, variable: str | None, file: Path | None) -> tuple[str, str]:
    """The value, and what messages call the place that it is from."""
    import os

    from engine.errors import EngineError
    from engine.lifecycle.secret import LONGEST, read_file
    from engine.secrets.redaction import hold

    if variable is not None:
        if variable not in os.environ:  # and not repeated: it may be a value
            raise EngineError("there is no variable of that name", hint="--from-env takes a name", exit_code=2)
        return hold(os.environ[variable]), f"variable {variable}"
    if file is not None:
        return read_file(file), f"file {file}"
    if piped or not sys.stdin.isatty():
        return hold(sys.stdin.buffer.read(LONGEST).decode(errors="replace")), "standard input"
    typed = hold(click.prompt(f"Value of {name} (not shown)", hide_input=True, err=True))
    if len(typed) >= _LONGEST_LINE:
        hint = f"sandbox secret set {name} --from-file FILE, or a pipe"
        raise EngineError(f"a terminal takes {_LONGEST_LINE} characters of a line and drops the others", hint=hint)
    return typed, "what was typed"


@command.command("ls")
@json_option("Machine-readable: an array of objects.")
def list_command(as_json: bool) -> None:
    """List secrets: those that you keep, those of your configuration, and those of the project's file. Never a value.

    Shown are the places where each is looked for, whether one of them has it, the hosts that the project's file sends
    it to, and the sandboxes whose file uses it.
    """
    from engine.lifecycle.secret import known_secrets
    from engine.lifecycle.selection import open_layout
    from engine.report.columns import align
    from sandboxfile.diagnostics import printable

    found = known_secrets(open_layout(), _project())
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps([asdict(known) for known in found], indent=2))
    elif found:
        rows = [tuple(map(printable, _row(known))) for known in found]
        click.echo(align([("NAME", "THERE", "FROM", "GOES TO", "USED BY"), *rows]))
    else:
        click.echo("you keep no secrets; `sandbox secret set NAME` keeps one", err=True)


def _row(known: Known) -> tuple[str, ...]:
    there = {True: "yes", False: "no", None: "?"}[known.there]
    return (
        known.name,
        there,
        ", else ".join(known.sources),
        " ".join(known.hosts) or "-",
        " ".join(known.used_by) or "-",
    )


@command.command("rm")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=_complete)
def remove_command(names: tuple[str, ...]) -> None:
    """Forget secrets. Sandboxes that run with one lose it at once: their requests are refused from then on."""
    from engine.lifecycle.secret import forget
    from engine.lifecycle.selection import open_layout

    layout = open_layout()
    for name in names:
        lost = forget(layout, name)
        click.echo(f"removed {name}" + (f", which {', '.join(lost)} used" if lost else ""))


@command.command(
    "import",
    epilog="""\b
Examples:
  sandbox secret import               from .env
  sandbox secret import ~/keys.env --yes
""",
)
@click.option("--yes", is_flag=True, help="Keep all that look like credentials, without a question.")
@click.argument("file", required=False, default=".env", type=click.Path(path_type=Path))
def import_command(file: Path, yes: bool) -> None:
    """Take over the credentials in a file of NAME=value lines; default: .env. You are asked about each.

    What has the name of a known vendor's key gets that vendor's (ANTHROPIC_API_KEY becomes anthropic). The file stays
    as it is.
    """
    from engine.errors import EngineError
    from engine.lifecycle.secret import candidates_in, keep
    from engine.lifecycle.selection import open_layout
    from engine.report.text import clean_line
    from engine.secrets.core_dumps import forbid_core_dumps

    forbid_core_dumps()
    layout, shown = open_layout(), clean_line(str(file))
    found, notes = candidates_in(layout, file)
    for note in notes:
        click.echo(f"note: {clean_line(note)}", err=True)
    if not found:
        raise EngineError(f"there is nothing in {shown} that looks like a credential")
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        names = ", ".join(clean_line(candidate.variable) for candidate in found)
        raise EngineError("nobody is here to be asked", f"found: {names}", "--yes keeps all of them", exit_code=2)
    kept = [candidate for candidate in found if yes or _wanted(candidate)]
    for candidate in kept:
        where = keep(layout, candidate.name, candidate.value, candidate.variable).where
        click.echo(f"kept {clean_line(candidate.variable)} as {candidate.name} in {where}")
    if kept:
        click.echo(f"note: they are still in {shown}, where a guest that sees this directory can read them", err=True)


def _wanted(candidate: Candidate) -> bool:
    from engine.report.text import clean_line

    before = f", in the place of the one of {candidate.before[:10]}" if candidate.before else ""
    return click.confirm(f"Keep {clean_line(candidate.variable)} as {candidate.name}{before}?", default=True, err=True)


@command.command(
    "check",
    epilog="""\b
Examples:
  sandbox secret check anthropic
  sandbox secret check work --vendor github
""",
)
@click.option("--vendor", metavar="VENDOR", help="Whose it is, where its name and its hosts do not say it.")
@click.option("--yes", is_flag=True, help="Send also what a file names that you have not approved.")
@click.argument("name", shell_complete=_complete)
def check_command(name: str, vendor: str | None, yes: bool) -> None:
    """Ask the vendor whether it takes a secret: one request that changes nothing and costs nothing.

    The value goes to the vendor's own host and nowhere else, with the header that a sandbox's requests get. Exit code
    0: it takes it; 1: it does not, or cannot be asked.
    """
    from engine.errors import EngineError
    from engine.lifecycle.secret import ask, make_question
    from engine.lifecycle.selection import open_layout
    from engine.report.text import clean_line
    from engine.secrets.core_dumps import forbid_core_dumps

    forbid_core_dumps()
    question = make_question(open_layout(), _project(), name, vendor)
    source, host = clean_line(question.source.label), question.probe.host
    if question.foreign and not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            hint = "`--yes` sends it; `sandbox up` on a terminal asks you and remembers"
            raise EngineError(f"the file names {source}, which you have not approved", None, hint, 2)
        if not click.confirm(f"The file names {source}. Send its value to {host}?", err=True):
            raise EngineError("nothing was sent")
    answer = ask(question)
    click.echo(f"{question.vendor.title} takes {name}, from {source} ({host} said {answer.status})")


def _project() -> Loaded | None:
    """The project's file, None where there is none. Raises SandboxfileError for its problems."""
    from engine.lifecycle.project_file import is_there_one, load_file

    return load_file(None) if is_there_one() else None
