"""`sandbox allow`."""

from __future__ import annotations

import click

from engine.cli.options import json_option, name_option
from engine.cli.suggestions import complete_hosts


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
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True, shell_complete=complete_hosts)
@click.option("--for", "time", metavar="TIME", help="End it by itself after this time, such as 30m or 1h.")
@click.option("--method", "methods", multiple=True, help="Allow this HTTP method only; may be given several times.")
@click.option("--path", "paths", multiple=True, metavar="PATTERN", help="Allow these paths only, such as /v1/**.")
@click.option("--save", is_flag=True, help="Write it into the sandbox's file as well; comments and order stay.")
@click.option("--end", is_flag=True, help="Take back what `allow` said about HOST: the file decides again.")
@name_option
@json_option("Machine-readable: `sandbox`, `said`, `temporary`.")
def command(
    hosts: tuple[str, ...],
    name: str | None,
    time: str | None,
    methods: tuple[str, ...],
    paths: tuple[str, ...],
    save: bool,
    end: bool,
    as_json: bool,
) -> None:
    """Let a running sandbox reach HOST from its next request on: a name, HOST:PORT, *.DOMAIN, or a group such as npm.

    It ends with the sandbox, or after --for. What the file denies stays denied. `sandbox ls` shows what is allowed for
    now.
    """
    from engine.cli.showing.sayings import say_all

    say_all(hosts, name, deny=False, methods=methods, paths=paths, time=time, save=save, end=end, as_json=as_json)
