"""`sandbox up`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import (
    build_in_option,
    detach_keys_option,
    file_options,
    json_option,
    path_argument,
    progress_option,
)

if TYPE_CHECKING:
    from engine.cli.asking.terminal import Terminal
    from engine.lifecycle.members import Members
    from engine.lifecycle.outcome import Outcome
    from engine.report.reporter import Mode
    from engine.state.instances import Instance
    from engine.state.layout import Layout
    from vmm.channel.detach_keys import DetachKeys


@click.command(
    "up",
    epilog="""\b
Examples:
  sandbox up                        this project's sandbox, with its agent in this terminal
  sandbox up -d ../shop             that project's, and return when it is ready
  sandbox up -d --yes --json        in scripts
  sandbox up --name shop-2          a second one from the same file
  sandbox up --from migrated        where a snapshot was taken (`sandbox snapshot`)
  sandbox up reviewer               one of the file's `agents`; without it, all of them
""",
)
@click.option("-d", "--detach", is_flag=True, help="Return when the sandbox is ready; do not run the agent.")
@click.option(
    "-y",
    "--yes",
    is_flag=True,
    help="Ask nothing: approve what the file asks of this host, and a new machine where a change needs one. This does"
    " not approve a local layer or .env that a guest may have written: name that file, or agree on a terminal.",
)
@click.option(
    "-n",
    "--name",
    metavar="NAME",
    help="The sandbox's name; default: the file's. Several names run one file several times.",
)
@click.option("--agent", metavar="AGENT", help="Only the sandbox of this one of the file's `agents`.")
@click.option("--from", "label", metavar="LABEL", help="Begin where this snapshot was taken, of the same file.")
@click.option("--recreate", is_flag=True, help="Replace a running, paused or stopped sandbox, whatever has changed.")
@click.option(
    "--unconfined-mounts",
    is_flag=True,
    help="Serve live mounts even where nothing on this host can confine their file server; `up` asks you once.",
)
@click.option(
    "--ask",
    is_flag=True,
    help="When the sandbox is ready, ask here about names that no endpoint names, while their connections wait. Implies"
    " -d: the agent belongs into another terminal (`sandbox up` there runs it).",
)
@click.option("--shell-on-failure", is_flag=True, help="Open a shell in the guest where a setup step failed.")
@click.option(
    "--keep-failed", is_flag=True, help="Keep a sandbox whose start failed, with its disk, until `sandbox down`."
)
@build_in_option
@click.option("--timings", is_flag=True, help="Show on standard error how long each phase of this `up` took.")
@detach_keys_option
@progress_option
@json_option("The summary as JSON on standard output; implies -d.")
@file_options
@path_argument
def command(
    path: Path | None,
    detach: bool,
    name: str | None,
    agent: str | None,
    as_json: bool,
    files: tuple[Path, ...],
    assignments: tuple[str, ...],
    progress: Mode,
    shell_on_failure: bool,
    ask: bool,
    detach_keys: str | None,
    timings: bool,
    label: str | None,
    **wishes: Any,
) -> int:
    """Start the sandbox that Sandboxfile.yaml describes, and run its agent in this terminal.

    PATH is a directory or a file; default: the nearest Sandboxfile.yaml upwards. It may also be the name of one of that
    file's `agents`, as with --agent. `up` first shows what it will build,
    and why. A sandbox that is paused or stopped is woken
    first. If the sandbox runs already, it is changed to what the file says now. Endpoints, ports, services and the
    agent's settings are changed while it runs; everything else needs a new machine, and `up` asks before it makes one.
    `sandbox plan` shows which. A file with `agents` brings up one sandbox for each agent; this implies -d.

    The agent goes on when this terminal detaches (the keys are shown), is closed or lost, and `up` or `sandbox attach`
    comes back to it. When the agent ends, `up` ends with its exit code, and the sandbox goes on running until `sandbox
    down`. Where standard input or output is no terminal, the agent has none, and ends with them.
    """
    from engine.cli.agent_terminal import chosen_keys
    from engine.cli.asking.terminal import Terminal
    from engine.cli.running import run
    from engine.lifecycle.agent_word import load_for
    from engine.lifecycle.intent import Wishes
    from engine.lifecycle.members import choose_members
    from engine.lifecycle.recording import Recorder
    from engine.lifecycle.selection import open_layout
    from engine.lifecycle.up import agreed, carry_out
    from engine.recall.memory import words_of
    from engine.report.timings import Timings

    if label is not None and (wishes["recreate"] or wishes["keep_failed"] or shell_on_failure):
        raise click.UsageError("--from builds nothing and replaces nothing.")
    if ask and as_json:
        raise click.UsageError("--ask talks to a person, and --json to a program: use one of them.")
    keys = chosen_keys(detach_keys)
    layout = open_layout()
    plain = not (agent or files or assignments or ask or shell_on_failure or label)
    recorder = Recorder(layout, words_of(str(path or ""), name, yes=wishes["yes"]), plain=plain)

    def tell(outcome: Outcome) -> None:
        if not as_json:
            summarize(outcome, detach=detach)

    audience = Terminal(progress, tell, shell_on_failure=shell_on_failure)
    audience.timings = Timings() if timings else None
    audience.phase("reading the file")
    with recorder.watching():
        loaded, agent = load_for(path, agent, files, assignments)
        members = choose_members(loaded, layout, name, agent)
        detach = detach or ask or len(members.each) > 1
        if label is not None:
            outcomes = [_begin_from(layout, members, label, name, audience, yes=wishes["yes"])]
        elif not wishes["recreate"]:
            from engine.cli.waking import start_members, wake_members

            names = [member.name for member in members.each]
            wake_members(layout, names)
            start_members(layout, names, yes=wishes["yes"])
        if label is None:
            with agreed(members, layout, Wishes(**wishes), audience) as plan:
                outcomes = run(carry_out(plan, audience, recorder))
    if audience.timings is not None:
        click.echo(audience.timings.render(), nl=False, err=True)
    if as_json:
        click.echo(_json(outcomes))
        return 0
    if ask:
        _ask_names(layout, [outcome.instance.name for outcome in outcomes])
    return run_agent(layout, outcomes[0].instance, keys, detach=detach)


def _begin_from(
    layout: Layout, members: Members, label: str, name: str | None, audience: Terminal, *, yes: bool
) -> Outcome:
    """The sandbox of a snapshot, when the user has agreed to what its file asks of this host."""
    from engine.cli.running import run
    from engine.lifecycle.outcome import Outcome
    from engine.lifecycle.snapshots import start_from
    from engine.trust.agreement import agree

    if len(members.each) > 1:
        raise click.UsageError("The file has several sandboxes: --agent says which one.")
    audience.found(members.whole.warnings, members.whole.path)
    agree(members.whole, layout, audience.ask, yes=yes, tell=audience.agreed_unseen)

    def tell(line: str) -> None:
        click.echo(f"  {line}", err=True)

    instance, seconds = run(start_from(layout, members.each[0].loaded, label, name, tell))
    outcome = Outcome(instance, "started", (), seconds)
    audience.is_up(outcome)
    return outcome


def show_again(layout: Layout, outcome: Outcome, *, detach: bool, as_json: bool) -> int:
    """The end of an `up` that was carried out without this command (up_call.py). Returns the exit code."""
    from engine.cli.agent_terminal import chosen_keys

    if as_json:
        click.echo(_json([outcome]))
        return 0
    keys = chosen_keys(None)
    summarize(outcome, detach=detach)
    return run_agent(layout, outcome.instance, keys, detach=detach)


def summarize(outcome: Outcome, *, detach: bool) -> None:
    """Print what is up. If an agent is started next, standard output is for the agent."""
    from engine.cli.showing.summary import show_summary

    show_summary(outcome, on_stderr=not detach and outcome.instance.agent is not None)


def _ask_names(layout: Layout, names: list[str]) -> None:
    from engine.cli.asking.names import ask_names, can_ask
    from engine.cli.running import run

    if can_ask():
        run(ask_names(layout, names))
    else:
        click.echo("note: nobody can be asked without a terminal: unknown names are refused as always", err=True)


def _json(outcomes: list[Outcome]) -> str:
    import json

    from engine.cli.showing.summary import to_json

    rows = [to_json(outcome) for outcome in outcomes]
    return json.dumps(rows[0] if len(rows) == 1 else {"version": 1, "sandboxes": rows}, indent=2)


def run_agent(layout: Layout, instance: Instance, detach_keys: DetachKeys, *, detach: bool) -> int:
    """Run the agent here, unless `detach` or there is none. Returns the exit code."""
    agent = instance.agent
    if detach or agent is None:
        return 0
    from engine.cli.agent_terminal import join_agent, on_terminal
    from engine.cli.attached import run_attached

    if on_terminal():
        return join_agent(layout, instance, detach_keys, again=False)
    # Without a terminal there is nothing to come back to: this agent ends with its streams.
    return run_attached(
        layout.instance(instance.name).sockets.control,
        agent.command,
        interactive=True,
        user=agent.user,
        cwd=instance.working_directory,
        env=agent.env,
    )
