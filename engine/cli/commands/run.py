"""`sandbox run`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.options import assignment_option, json_option, progress_option

if TYPE_CHECKING:
    from engine.lifecycle.tasks import Ran
    from engine.report.reporter import Mode


@click.command(
    "run",
    epilog="""\b
Examples:
  sandbox run -p "make the tests pass"
  sandbox run -f task.md --timeout 30m
  git diff | sandbox run -p - --json
  sandbox run --parallel 3 -p "find the bug" --json     with read-only mounts
  sandbox run -p "try it another way" --patch other.diff     with a private copy
  sandbox run reviewer -p "review the last commit"     one of the file's `agents`
""",
)
@click.argument("agent", required=False)
@click.option("-p", "--prompt", metavar="TEXT", help="The task; - reads it from standard input.")
@click.option(
    "-f",
    "--file",
    "task_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the task.",
)
@click.option("--timeout", default="1h", show_default=True, metavar="DURATION", help="How long the agent may take.")
@click.option("--keep", is_flag=True, help="Leave the machine running, for a look.")
@click.option("--keep-on-failure", is_flag=True, help="The same where the agent has failed.")
@click.option(
    "--patch",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what was changed in a private copy (`mode: clone`) here, for `git apply`. With --parallel: FILE.1, ...",
)
@click.option(
    "--parallel", type=int, default=1, metavar="N", help="So many agents at once, each in a machine of its own."
)
@click.option("--yes-shared", is_flag=True, help="With --parallel: let them all write in the live mounts.")
@click.option("-y", "--yes", is_flag=True, help="Agree to what the file asks of this host.")
@progress_option
@json_option("The result as one JSON object on standard output.")
@click.option("-C", "--directory", "path", type=click.Path(path_type=Path), help="The project; default: this one.")
@assignment_option
def command(
    agent: str | None,
    prompt: str | None,
    task_file: Path | None,
    timeout: str,
    yes: bool,
    progress: Mode,
    as_json: bool,
    path: Path | None,
    assignments: tuple[str, ...],
    parallel: int,
    yes_shared: bool,
    patch: Path | None,
    **keeping: bool,
) -> int:
    """Give the file's agent one task, in a machine of its own that is gone afterwards.

    The agent's answer goes to standard output, everything else to standard error. `run` ends with the agent's exit
    code; with 124 when the agent's time was over, and with 1 when the agent says that it has failed. Nobody answers
    what it asks: its standard input is empty. The machine is a fresh one each time; it publishes no ports, and nothing
    of it is kept but what the agent writes in live mounts, and with --patch what it changed in a private copy. With
    --parallel, lines begin with the number of the machine, --json is an array, and the exit code is the worst one; one
    that fails ends no other.
    """
    from engine.agents.headless import headless_command
    from engine.cli.asking.terminal import Terminal
    from engine.cli.running import run
    from engine.cli.showing.tasks import Told
    from engine.lifecycle.intent import Wishes
    from engine.lifecycle.members import choose_members
    from engine.lifecycle.project_file import load_file
    from engine.lifecycle.selection import open_layout
    from engine.lifecycle.task import Task, agent_of
    from engine.lifecycle.tasks import members_of, run_tasks
    from engine.lifecycle.up import agreed

    if patch is not None and not (patch.parent.is_dir() and os.access(patch.parent, os.W_OK)):
        raise click.BadParameter(f"{patch.parent} is no directory that can be written in", param_hint="--patch")
    task = Task(_prompt(prompt, task_file), _seconds(timeout), **keeping)
    loaded, layout = load_file(path, (), assignments), open_layout()
    chosen = choose_members(loaded, layout, None, agent)
    definition, _ = agent_of(chosen)
    headless_command(definition, task.prompt)  # an agent that needs a terminal is told of before anything is asked
    members = members_of(chosen, chosen.each[0], parallel, shared=yes_shared)
    audience = Terminal("plain" if parallel > 1 and progress == "auto" else progress)
    told = Told(parallel)
    with agreed(members, layout, Wishes(yes=yes, for_task=True), audience) as plan:
        found = run(run_tasks(plan, task, layout, audience, told.pass_on))
    if patch is not None:
        _write_patches(patch, found, several=parallel > 1)
    elif not as_json and any(ran.done and ran.done.diff and not ran.done.kept for ran in found):
        click.echo("the changes were in a private copy, which is gone: --patch FILE writes them down", err=True)
    return told.show(found, as_json=as_json)


def _write_patches(path: Path, found: list[Ran], *, several: bool) -> None:
    for ran in found:
        if ran.done is not None and ran.done.diff is not None:
            place = path.with_name(f"{path.name}.{ran.number}") if several else path
            place.write_text(ran.done.diff, encoding="utf-8", errors="surrogateescape")


def _prompt(prompt: str | None, file: Path | None) -> str:
    if (prompt is None) == (file is None):
        raise click.UsageError(
            "the task is missing: -p TEXT, -p - or -f FILE" if file is None else "one task is enough"
        )
    if prompt == "-":
        prompt = sys.stdin.read()
    text = (file.read_text() if file is not None else prompt or "").strip()
    if not text:
        raise click.UsageError("the task is empty")
    return text


def _seconds(text: str) -> float:
    from sandboxfile.quantities import parse_duration

    try:
        return float(parse_duration(text))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from None
