"""`sandbox run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.options import assignment_option, json_option, progress_option

if TYPE_CHECKING:
    from engine.report.reporter import Mode


@click.command(
    "run",
    epilog="""\b
Examples:
  sandbox run -p "make the tests pass"
  sandbox run -f task.md --timeout 30m
  git diff | sandbox run -p - --json
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
    keep: bool,
    yes: bool,
    progress: Mode,
    as_json: bool,
    path: Path | None,
    assignments: tuple[str, ...],
) -> int:
    """Give the file's agent one task, in a machine of its own that is gone afterwards.

    The agent's answer goes to standard output, everything else to standard error. `run` ends with the agent's exit
    code; with 124 when the agent's time was over, and with 1 when the agent says that it has failed.
    """
    import json

    from engine.agents.headless import headless_command
    from engine.cli.asking.terminal import Terminal
    from engine.cli.running import run
    from engine.lifecycle.intent import Wishes
    from engine.lifecycle.members import Members, choose_members
    from engine.lifecycle.project_file import load_file
    from engine.lifecycle.selection import open_layout
    from engine.lifecycle.task import Task, agent_of, name_of_run, run_task
    from engine.lifecycle.up import agreed

    task = Task(_prompt(prompt, task_file), _seconds(timeout), keep)
    loaded, layout = load_file(path, (), assignments), open_layout()
    chosen = choose_members(loaded, layout, None, agent)
    headless_command(
        agent_of(chosen)[0], task.prompt
    )  # an agent that needs a terminal is told of before anything is asked
    (member,) = chosen.each
    members = Members(chosen.whole, (member._replace(name=name_of_run(member.name)),))
    audience = Terminal(progress)
    with agreed(members, layout, Wishes(yes=yes, for_task=True), audience) as plan:
        done = run(run_task(plan, task, layout, audience, _pass_on))
    if as_json:
        click.echo(json.dumps(done.to_json(), indent=2, ensure_ascii=False))
    else:
        click.echo(done.result)
        _tell(done.seconds, done.changed, done.refused)
    if keep:
        click.echo(f"{done.sandbox} runs on: `sandbox down {done.sandbox}` ends it", err=True)
    return done.code


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


def _pass_on(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


def _tell(seconds: float, changed: tuple[str, ...] | None, refused: tuple[str, ...]) -> None:
    count = "too many files to look at" if changed is None else f"{len(changed)} files changed"
    click.echo(f"done in {seconds:.1f} s, {count}", err=True)
    for name in (changed or ())[:20]:
        click.echo(f"  {name}", err=True)
    if refused:
        click.echo(f"refused: {', '.join(refused)} (`sandbox add endpoint` allows a host)", err=True)
