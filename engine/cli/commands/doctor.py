"""`sandbox doctor`."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import click

from engine.cli.options import json_option


@click.command(
    "doctor",
    epilog="""\b
Examples:
  sandbox doctor                                     what there is on this host
  sandbox doctor --attack                            try to get out of a sandbox of its own
  sandbox doctor --attack --group mounts --state fresh
  sandbox doctor --attack --page attacks.md          and write what came of it as a page
""",
)
@json_option(
    "Machine-readable: host, tools, kernel, accelerator, confinement, network, machine, directories; in bytes."
)
@click.option("--no-build", is_flag=True, help="Only look: neither fetch tools nor probe accelerators.")
@click.option(
    "--attack",
    is_flag=True,
    help="Try to get out of a throw-away sandbox, as root in it; exit code 1 if anything does, or a state was not run.",
)
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="With --attack: only these; may be repeated.")
@click.option("--state", "states", multiple=True, metavar="STATE", help="With --attack: only in these states.")
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), help="With --attack: write a page (Markdown).")
@click.option(
    "--earlier",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --page: a result that --json has printed, such as another user's, for the same page.",
)
def command(
    as_json: bool,
    no_build: bool,
    attack: bool,
    groups: tuple[str, ...],
    states: tuple[str, ...],
    page: Path | None,
    earlier: tuple[Path, ...],
) -> None:
    """Show each tool with version and origin, how the accelerator was chosen, what carries packets, and the
    directories that are used.

    Fetches the tools and probes the accelerators if that has not been done yet.

    With --attack it makes a sandbox of its own, in a network of its own, and root in it tries what has broken
    sandboxes: fresh, resumed, restored, forked and so on (docs/attacks.md). It takes minutes, under emulation an hour;
    ^C ends it with what is known by then. It needs Linux and the right to make namespaces, and nothing of it leaves
    this host.
    """
    if attack:
        _attack(groups, states, as_json, page, earlier)
    if groups or states or page or earlier:
        raise click.UsageError("--group, --state, --page and --earlier are for --attack")
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


def _attack(
    groups: tuple[str, ...], states: tuple[str, ...], as_json: bool, page: Path | None, earlier: tuple[Path, ...]
) -> None:
    from engine.attacks.states import STATES
    from engine.cli.attacking import run_attack

    if unknown := sorted(set(states) - set(STATES)):
        raise click.BadParameter(f"there is no state {unknown[0]}; there are {', '.join(STATES)}", param_hint="--state")
    sys.exit(run_attack(groups, states, as_json, page, earlier))
