"""`sandbox ls`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import json_option

if TYPE_CHECKING:
    from engine.lifecycle.sessions import AtWork
    from engine.state.instances import Listed
    from engine.state.layout import Layout

KEPT = ("project", "file", "created", "pid", "ports", "mounts", "services")


@click.command("ls")
@json_option("Machine-readable: an array of objects.")
def command(as_json: bool) -> None:
    """List the sandboxes of this user: name, status, agent, project, ports and services.

    An agent is `attached` to terminals, `detached` while it goes on without one, or has `ended`.
    """
    from engine.lifecycle.selection import open_layout
    from engine.report.columns import align
    from engine.state.instances import list_instances

    layout = open_layout()
    found = list_instances(layout)
    agents = [_agent(layout, listed) for listed in found]
    if as_json:
        import json

        shown = [
            {**to_json(*both), "troubles": list(troubles_of(layout, both[0]))}
            for both in zip(found, agents, strict=True)
        ]
        click.echo(json.dumps(shown, indent=2))
    elif found:
        rows = [to_row(*both) for both in zip(found, agents, strict=True)]
        click.echo(align([("NAME", "STATUS", "AGENT", "PROJECT", "PORTS", "SERVICES"), *rows]))
        for listed in found:
            for line in (*trouble_lines(layout, listed), *temporary_lines(listed), *ask_lines(listed)):
                click.echo(line)
    else:
        click.echo("no sandboxes; `sandbox up` starts the one of this project", err=True)


def _agent(layout: Layout, listed: Listed) -> AtWork | None:
    if listed.instance is None or listed.instance.agent is None or listed.liveness != "running":
        return None
    from engine.lifecycle.sessions import look_at_agent  # and with it the channel, which most calls do without

    return look_at_agent(layout.instance(listed.name).sockets.control)


def to_json(listed: Listed, agent: AtWork | None = None) -> dict[str, Any]:
    """A sandbox as a JSON value. `status` is one word, `message` says more.

    `agent` is null where there is none or nobody can tell; its `state` is `attached`, `detached`, `ended`, or `none`
    before it has been started in this machine. Where the record cannot be read, the keys that come from it are missing.
    """
    record = {key: getattr(listed.instance, key) for key in KEPT} if listed.instance else {}
    if listed.instance:
        record["temporary"] = _temporary(listed)
        record["agent"] = agent and {"state": agent.word, "terminals": agent.terminals or 0, "code": agent.code}
        record["asks"] = asks_of(listed)
    return {"name": listed.name, "status": listed.liveness, "message": listed.status, **record}


def troubles_of(layout: Layout, listed: Listed) -> tuple[str, ...]:
    """What keeps a running sandbox from working now."""
    if listed.liveness not in ("running", "unresponsive"):
        return ()
    from engine.state.troubles import read_troubles

    return read_troubles(layout.instance(listed.name).troubles)


def trouble_lines(layout: Layout, listed: Listed) -> list[str]:
    """The same, a line each; paths in them are cleaned."""
    from engine.report.text import clean_line

    return [clean_line(f"{listed.name}: {text}") for text in troubles_of(layout, listed)]


def temporary_lines(listed: Listed) -> list[str]:
    """What is allowed or denied for now, a line each."""
    lines = []
    for row in _temporary(listed):
        conditions = " ".join(filter(None, (",".join(row["methods"]), ",".join(row["paths"]))))
        what = f"{'denied' if row['deny'] else 'allowed'}: {row['name']}{f' ({conditions})' if conditions else ''}"
        lines.append(f"{listed.name}: for now {what}, until {row['until'] or 'the sandbox ends'}")
    return lines


def ask_lines(listed: Listed) -> list[str]:
    """What the guest asks for, a line each; the words are its own."""
    from engine.report.text import clean_line

    lines = []
    for row in asks_of(listed):
        name = row["host"] if row["port"] in (80, 443) else f"{row['host']}:{row['port']}"
        why = f" ({row['why']})" if row["why"] else ""
        lines.append(clean_line(f"{listed.name}: asks for {name}{why}: `sandbox allow {name} -n {listed.name}`"))
    return lines


def asks_of(listed: Listed) -> list[dict[str, Any]]:
    """What the guest of a running sandbox asks for, and nobody has decided about."""
    running = listed.liveness in ("running", "unresponsive")
    return list(listed.instance.asks) if listed.instance and running else []


def _temporary(listed: Listed) -> list[dict[str, Any]]:
    """It ends with the supervisor, also with one that was killed and could not write that down."""
    running = listed.liveness in ("running", "unresponsive")
    return list(listed.instance.temporary) if listed.instance and running else []


def to_row(listed: Listed, agent: AtWork | None = None) -> tuple[str, ...]:
    record = listed.instance
    if record is None:
        return listed.name, listed.status, "-", "?", "-", "-"
    word = agent.word if agent and agent.word != "none" else "-"
    ports = " ".join(f"{port['host']}->{port['guest']}" for port in record.ports)
    services = " ".join(sorted(record.services))
    return listed.name, listed.status, word, record.project, ports or "-", services or "-"
