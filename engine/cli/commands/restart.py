"""`sandbox restart`."""

from __future__ import annotations

import click

from engine.cli.options import complete_services, name_option


@click.command(
    "restart",
    epilog="""\b
Examples:
  sandbox restart web
  sandbox restart web worker
  sandbox restart -n shop                every service of the sandbox called shop
""",
)
@name_option
@click.argument("services", metavar="[SERVICE]...", nargs=-1, shell_complete=complete_services)
def command(name: str | None, services: tuple[str, ...]) -> int:
    """Restart SERVICE, or every service, and wait until it is healthy.

    Its container stays the same one, with everything that it wrote. What has changed in the file is applied by `up`
    alone, and the machine itself is restarted by `down` and `up`.
    """
    from engine.cli.attached import run_attached
    from engine.lifecycle.selection import choose_running, open_layout
    from engine.lifecycle.services import restart_command

    instance, control = choose_running(open_layout(), name)
    return run_attached(control, restart_command(instance, services), user="root", cwd="/")
