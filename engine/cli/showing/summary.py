"""What `up` says at its end."""

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
    """The record, what was changed about a sandbox that ran already, and the seconds that `up` took.

    Of the agent's environment the names, with digests: a pipeline keeps what it prints.
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
    """Name, how it came to run, what was changed, workspace, services, ports, agent, and what to do next."""
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
        click.echo(f"  {title:<10} {clean_line(text)}", file=stream)  # a directory may be called anything


def rows(instance: Instance) -> list[tuple[str, str]]:
    """(title, text) of each line below the first."""
    # The name is needed where the project has more sandboxes than this one, and never wrong.
    name = instance.name
    found = [("workspace", _mount(mount)) for mount in instance.mounts]
    found = found or [("workspace", "none: nothing of this host is shared")]
    for service, state in instance.services.items():
        found.append(("service", f"{service}: {state.get('health') or state.get('state') or 'unknown'}"))
    for port in instance.ports:
        found.append(("port", f"127.0.0.1:{port['host']} -> {port['guest']} in the guest"))
    found += [("warning", text) for text in instance.warnings]
    if instance.agent:
        found.append(("agent", " ".join(instance.agent.command)))
    return [*found, ("get in", f"sandbox exec -it {name} -- bash"), ("end it", f"sandbox down {name}")]


def _mount(mount: dict[str, Any]) -> str:
    return f"{mount['source']} -> {mount['target']}{' (read-only)' if mount['read_only'] else ''}"
