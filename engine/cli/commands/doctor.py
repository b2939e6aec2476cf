"""`sandbox doctor`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from engine.cli.options import json_option

if TYPE_CHECKING:
    from engine.cache.store import Store


@click.command("doctor")
@json_option("Machine-readable: host, tools, kernel, accelerator, confinement, directories; sizes in bytes.")
@click.option("--no-build", is_flag=True, help="Only look: neither fetch tools nor probe accelerators.")
def command(as_json: bool, no_build: bool) -> None:
    """Show every tool with its version and origin, the accelerator with its evidence, and the directories used.

    Fetches the tools and probes accelerators when that has not been done yet.
    """
    from engine.build.foundation import load_verdict
    from engine.cache.store import Store
    from engine.cli.running import run
    from engine.cli.showing.host_report import find_tools, hints, make_report, render, try_mounts
    from engine.lifecycle.selection import open_layout

    layout = open_layout()
    store = Store(layout)
    if not no_build:
        _make_ready(store)
    report = make_report(layout, find_tools(store), load_verdict(store), None if no_build else run(try_mounts()))
    if as_json:
        import json

        click.echo(json.dumps(report, indent=2))
        return
    click.echo(render(report))
    for hint in hints(report):
        click.echo(f"note: {hint}", err=True)


def _make_ready(store: Store) -> None:
    from engine.build.foundation import tool_nodes
    from engine.build.scheduler import execute
    from engine.cli.running import run
    from engine.plan.build_plan import make_plan
    from engine.plan.graph import Graph
    from engine.report.choice import make_reporter

    graph = Graph(tool_nodes())
    plan = make_plan(graph, store)
    if plan.to_build:
        with make_reporter(sys.stderr, "auto") as reporter:
            run(execute(graph, plan, store, reporter, 1))
