"""`sandbox logs`."""

from __future__ import annotations

import asyncio

import click


@click.command("logs")
@click.option("-n", "--name", help="The sandbox; default: the one of this project.")
@click.option("-f", "--follow", is_flag=True, help="Wait for more, until ^C.")
@click.option("--tail", default="all", show_default=True, help="How many of the last lines.")
@click.argument("service", required=False)
def command(name: str | None, follow: bool, tail: str, service: str | None) -> int:
    """Show what SERVICE, or every service, printed."""
    from engine.cli.exec_command import _attach
    from engine.cli.selection import choose_running, open_layout
    from engine.errors import EngineError

    instance, control = choose_running(open_layout(), name)
    if not instance.services:
        raise EngineError(f"the sandbox {instance.name} has no services")
    if service is not None and service not in instance.services:
        known = ", ".join(sorted(instance.services))
        raise EngineError(f"there is no service {service!r}", hint=f"there is: {known}")
    argv = ["docker", "compose", "-f", "/compose.yaml", "logs", "--no-color", "--tail", tail]
    argv += [*(["--follow"] if follow else []), *([service] if service else [])]
    return asyncio.run(_attach(control, argv, tty=False, interactive=False, user="root", cwd="/", env={}))
