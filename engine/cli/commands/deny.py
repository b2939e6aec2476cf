"""`sandbox deny`."""

from __future__ import annotations

from typing import Any

import click

from engine.cli.options import saying_options


@click.command(
    "deny",
    epilog="""\b
Examples:
  sandbox deny api.example.com
  sandbox deny '*.example.com' --for 30m
  sandbox deny api.example.com --method DELETE
  sandbox deny --end api.example.com       the file decides again
""",
)
@saying_options("deny")
def command(hosts: tuple[str, ...], name: str | None, **said: Any) -> None:
    """Refuse HOST to a running sandbox from its next request on, whatever its file allows. Open connections are cut.

    It ends with the sandbox, or after --for.
    """
    from engine.cli.showing.sayings import say_all

    say_all(hosts, name, deny=True, **said)
