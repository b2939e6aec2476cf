"""`sandbox deny`."""

from __future__ import annotations

import click

from engine.cli.options import json_option, name_option
from engine.cli.suggestions import complete_hosts


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
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True, shell_complete=complete_hosts)
@click.option("--for", "time", metavar="TIME", help="End it by itself after this time, such as 30m or 1h.")
@click.option("--method", "methods", multiple=True, help="Deny this HTTP method only; may be given several times.")
@click.option("--path", "paths", multiple=True, metavar="PATTERN", help="Deny these paths only, such as /admin/**.")
@click.option("--save", is_flag=True, help="Write it into the sandbox's file as well; comments and order stay.")
@click.option("--end", is_flag=True, help="Take back what `deny` said about HOST: the file decides again.")
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
    """Refuse HOST to a running sandbox from its next request on, whatever its file allows. Open connections are cut.

    It ends with the sandbox, or after --for.
    """
    from engine.cli.showing.sayings import say_all

    say_all(hosts, name, deny=True, methods=methods, paths=paths, time=time, save=save, end=end, as_json=as_json)
