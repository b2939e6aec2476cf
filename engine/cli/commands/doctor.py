"""`sandbox doctor`."""

from __future__ import annotations

import functools
import sys

import click

from engine.cli.options import json_option


@click.command("doctor")
@json_option(
    "Machine-readable: host, tools, kernel, accelerator, confinement, network, machine, directories; in bytes."
)
@click.option("--no-build", is_flag=True, help="Only look: neither fetch tools nor probe accelerators.")
def command(as_json: bool, no_build: bool) -> None:
    """Show each tool with version and origin, how the accelerator was chosen, what carries packets, and the
    directories that are used.

    Fetches the tools and probes the accelerators if that has not been done yet.
    """
    from engine.build.foundation import load_verdict
    from engine.cache.store import Store
    from engine.cli.running import run
    from engine.cli.showing.host_report import hints, render
    from engine.lifecycle.doctor import (
        find_tools,
        make_ready,
        make_report,
        try_machine_jail,
        try_mounts,
        try_network,
    )
    from engine.lifecycle.selection import open_layout
    from engine.report.choice import make_reporter

    layout = open_layout()
    store = Store(layout)
    if not no_build:
        run(make_ready(store, functools.partial(make_reporter, sys.stderr, "auto")))
    tools = find_tools(store)
    confinement, network = (None, None) if no_build else (run(try_mounts()), run(try_network(tools)))
    machine = None if no_build else run(try_machine_jail(network))
    report = make_report(layout, tools, load_verdict(store), confinement, network, machine)
    if as_json:
        import json

        click.echo(json.dumps(report, indent=2))
        return
    click.echo(render(report))
    for hint in hints(report):
        click.echo(f"note: {hint}", err=True)
