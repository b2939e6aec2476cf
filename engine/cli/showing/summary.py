"""The summary that `up` prints at its end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from engine.cli.showing.emphasis import emphasize
from engine.report.text import clean_line

if TYPE_CHECKING:
    from engine.lifecycle.outcome import Outcome
    from engine.state.instances import Instance


def to_json(outcome: Outcome) -> dict[str, Any]:
    """The record of the sandbox, what was changed while it ran, and the seconds that `up` took.

    The values of the agent's environment are replaced by digests, since a pipeline keeps what its commands print.
    """
    from engine.secrets.secrecy import masked_environment

    record = outcome.instance.to_json()
    if agent := record["agent"]:
        agent["env"] = masked_environment(agent["env"])
    return {
        **record,
        "applied": [change.to_json() for change in outcome.applied],
        "seconds": round(outcome.seconds, 3),
    }


def show_summary(outcome: Outcome, *, on_stderr: bool) -> None:
    """Print name, outcome, changes, workspace, services, ports, agent, and what the user can do next."""
    stream = sys.stderr if on_stderr else sys.stdout
    how = {
        "started": f"is up after {outcome.seconds:.1f} s",
        "unchanged": "is already running, unchanged",
        "changed": f"was changed while it runs, in {outcome.seconds:.1f} s",
        "replaced": f"is up in a new machine after {outcome.seconds:.1f} s",
    }[outcome.how]
    click.echo(f"{emphasize(outcome.instance.name, 'green', stream)} {how}", file=stream)
    changed = [("changed", f"{change.path}: {change.what}") for change in outcome.applied]
    for title, text in [*changed, *rows(outcome.instance)]:
        # The names of directories may hold characters that control the terminal.
        click.echo(f"  {title:<10} {clean_line(text)}", file=stream)


def rows(instance: Instance) -> list[tuple[str, str]]:
    """(title, text) of each line below the first."""
    lines = [("workspace", _mount(mount)) for mount in instance.mounts]
    lines = lines or [("workspace", "none: nothing of this host is shared")]
    for service, state in instance.services.items():
        lines.append(("service", f"{service}: {state.get('health') or state.get('state') or 'unknown'}"))
    for port in instance.ports:
        lines.append(("port", f"127.0.0.1:{port['host']} -> {port['guest']} in the guest"))
    lines += [("warning", text) for text in instance.warnings]
    if instance.agent:
        lines.append(("agent", " ".join(instance.agent.command)))
    # Within the project the name may be left out of these commands, unless the project has several sandboxes.
    name = instance.name
    return [*lines, ("get in", f"sandbox shell {name}"), ("end it", f"sandbox down {name}")]


def _mount(mount: dict[str, Any]) -> str:
    return f"{mount['source']} -> {mount['target']}{' (read-only)' if mount['read_only'] else ''}"
