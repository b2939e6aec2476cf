"""`sandbox doctor`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import click


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.option("--no-build", is_flag=True, help="Only look: neither fetch tools nor probe accelerators.")
def command(as_json: bool, no_build: bool) -> None:
    """Show every tool with its version and origin, the accelerator with its evidence, and the directories used.

    Fetches the tools and probes accelerators when that has not been done yet.
    """
    from engine.build.foundation import load_verdict, tool_nodes
    from engine.cli.selection import open_layout
    from engine.graph import Graph
    from engine.plan import make_plan
    from engine.report import make_reporter
    from engine.scheduler import execute
    from engine.store import Store
    from engine.toolchain import load_toolchain

    layout = open_layout()
    store = Store(layout)
    if not no_build:
        graph = Graph(tool_nodes())
        plan = make_plan(graph, store)
        if plan.to_build:
            with make_reporter(sys.stderr, "auto") as reporter:
                asyncio.run(execute(graph, plan, store, reporter, 1))
    node = tool_nodes()[0]
    entry = store.find(node.kind, node.key)
    tools = load_toolchain(entry) if entry else None
    verdict = load_verdict(store)
    report: dict[str, Any] = {
        "tools": [
            {"name": tool.name, "version": tool.version, "origin": tool.origin, "path": str(tool.path)}
            for tool in (tools.programs() if tools else ())
        ],
        "kernel": tools.kernel_release if tools else None,
        "accelerator": verdict.to_json() if verdict else None,
        "directories": {"cache": str(layout.cache), "state": str(layout.state), "runtime": str(layout.runtime)},
    }
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    click.echo("tools" if tools else "tools: not fetched yet")
    for tool in report["tools"]:
        click.echo(f"  {tool['name']:<20} {tool['version']:<12} {tool['origin']:<8} {tool['path']}")
    click.echo(f"guest kernel\n  {report['kernel'] or 'not fetched yet'}")
    click.echo(f"accelerator: {verdict.accelerator if verdict else 'not probed yet'}")
    for attempt in verdict.attempts if verdict else ():
        click.echo(f"  {attempt.accelerator:<5} {attempt.result} after {attempt.seconds:.1f} s")
        if attempt.last_line and not attempt.booted:
            click.echo(f"        last line of its console: {attempt.last_line}")
    click.echo("directories")
    for name, path in report["directories"].items():
        click.echo(f"  {name:<8} {path}")
