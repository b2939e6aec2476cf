"""What `up` says at its end."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from engine.cli.emphasis import emphasize

if TYPE_CHECKING:
    from engine.instances import Instance


def to_json(instance: Instance, seconds: float) -> dict[str, Any]:
    """The record, and the seconds that `up` took."""
    return {**asdict(instance), "seconds": round(seconds, 3)}


def show_summary(instance: Instance, seconds: float | None, *, on_stderr: bool) -> None:
    """Name, time (None: it ran already), workspace, services, ports, agent, and what to do next."""
    stream = sys.stderr if on_stderr else sys.stdout
    how = "is already running, unchanged" if seconds is None else f"is up after {seconds:.1f} s"
    click.echo(f"{emphasize(instance.name, 'green', stream)} {how}", file=stream)
    for title, text in rows(instance):
        click.echo(f"  {title:<10} {text}", file=stream)


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
    if agent := instance.summary.get("agent"):
        found.append(("agent", " ".join(agent)))
    return [*found, ("get in", f"sandbox exec -it {name} -- bash"), ("end it", f"sandbox down {name}")]


def _mount(mount: dict[str, Any]) -> str:
    return f"{mount['source']} -> {mount['target']}{' (read-only)' if mount['read_only'] else ''}"
