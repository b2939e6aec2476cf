"""`sandbox logs`."""

from __future__ import annotations

import click

from engine.cli.options import complete_services, follow_option, name_option


@click.command(
    "logs",
    epilog="""\b
Examples:
  sandbox logs                 every service
  sandbox logs -f --tail 20 web
  sandbox logs -n shop db      of the sandbox called shop
""",
)
@name_option
@follow_option
@click.option("--tail", default="all", show_default=True, metavar="LINES", help="How many of the last lines.")
@click.argument("service", required=False, shell_complete=complete_services)
def command(name: str | None, follow: bool, tail: str, service: str | None) -> int:
    """Show what SERVICE, or every service, printed."""
    from engine.cli.attached import run_attached
    from engine.lifecycle.logs import logs_command
    from engine.lifecycle.selection import choose_running, names_of_sandboxes, open_layout

    if tail != "all" and not tail.isdecimal():
        raise click.BadParameter(f"{tail!r} is neither a number nor `all`", param_hint="--tail")
    layout = open_layout()
    if name and name.isdecimal() and name not in names_of_sandboxes(layout):
        raise click.UsageError(f"-n is the name of a sandbox; the last {name} lines are --tail {name}")
    instance, control = choose_running(layout, name)
    argv = logs_command(instance, service, tail=None if tail == "all" else int(tail), follow=follow)
    return run_attached(control, argv, user="root", cwd="/", forward=False)
