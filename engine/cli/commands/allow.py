"""`sandbox allow`."""

from __future__ import annotations

from typing import Any

import click

from engine.cli.options import saying_options


@click.command(
    "allow",
    epilog="""\b
Examples:
  sandbox allow api.example.com
  sandbox allow api.example.com --for 1h
  sandbox allow api.example.com --method GET --path '/v1/**'
  sandbox allow npm --save                 and write it into the Sandboxfile
  sandbox allow --end api.example.com      take it back
""",
)
@saying_options("allow")
def command(hosts: tuple[str, ...], name: str | None, **said: Any) -> None:
    """Let a running sandbox reach HOST from its next request on: a name, HOST:PORT, *.DOMAIN, or a group such as npm.

    It ends with the sandbox, or after --for. What the file denies stays denied. `sandbox ls` shows what is allowed for
    now.
    """
    from engine.cli.showing.sayings import say_all

    say_all(hosts, name, deny=False, **said)
