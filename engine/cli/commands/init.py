"""`sandbox init`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from engine.cli.options import F, json_option


def complete_templates(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The names of all templates."""
    from engine.errors import EngineError
    from engine.starter.templates import template_names

    try:
        return [name for name in template_names() if name.startswith(incomplete)]
    except (EngineError, OSError):
        return []  # an error cannot be shown while the user types a line


def _wanted(part: str, what: str) -> Callable[[F], F]:
    text = f"Put in {what}, or not. Default: ask; without a terminal, put in."
    return click.option(f"--{part}/--no-{part}", default=None, help=text)


@click.command(
    "init",
    epilog="""\b
Examples:
  sandbox init                             ask a few questions, about what this project shows
  sandbox init claude-code                 a starter file for this agent
  sandbox init shell ../shop --yes         ask nothing
  sandbox init default --print             every setting that there is, with what it means
  sandbox init --from compose.yaml         convert; also a devcontainer.json or an sbxenv.yaml
  sandbox init --list                      the templates
""",
)
@click.option("--list", "as_list", is_flag=True, help="List the templates, and write nothing.")
@click.option(
    "--from",
    "source",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Convert a Compose file, devcontainer.json or sbxenv.yaml, and list what could not be carried over.",
)
@click.option("-o", "--output", metavar="PATH", type=click.Path(path_type=Path), help="The same as PATH.")
@click.option(
    "--mount",
    type=click.Choice(["rw", "ro", "clone", "none"]),
    help="How the machine sees this directory: live, read-only, as a private copy, not at all. Default: rw.",
)
@_wanted("packages", "the Debian packages that the project seems to need")
@_wanted("setup", "the set-up that it seems to need")
@_wanted("services", "the services that it has")
@click.option("--gitignore/--no-gitignore", default=None, help="Add Sandboxfile.local.yaml to .gitignore, or do not.")
@click.option("--force", is_flag=True, help="Overwrite the file that is there.")
@click.option("--print", "--dry-run", "dry_run", is_flag=True, help="Print the file, and write nothing.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing: take the defaults.")
@json_option("What was written and what was not, or with --list the templates, as JSON.")
@click.argument("template", required=False, shell_complete=complete_templates)
@click.argument("path", required=False, type=click.Path(path_type=Path))
def command(template: str | None, path: Path | None, as_list: bool, as_json: bool, **wishes: Any) -> int:
    """Write a first Sandboxfile.yaml, from a template and from what the project seems to need.

    TEMPLATE is the name of an agent, `shell` for no agent, or `default`, which documents every setting. Default: what
    the project suggests, else `shell`. PATH is a directory or the file itself; default: this directory. Nothing of the
    project is run, and no file is overwritten without asking.
    """
    if as_list:
        _show_templates(as_json)
        return 0
    from engine.cli.asking.first_file import FirstFileWishes, make_first_file

    return make_first_file(template, path, FirstFileWishes(as_json=as_json, **wishes))


def _show_templates(as_json: bool) -> None:
    from engine.report.columns import align
    from engine.starter.templates import list_templates

    templates = list_templates()
    if as_json:
        import json

        rows = [
            {"name": item.name, "summary": item.summary, "agent": item.is_agent, "own": item.remark or None}
            for item in templates
        ]
        click.echo(json.dumps(rows, indent=2))
    else:
        remarks = [f" ({item.remark})" if item.remark else "" for item in templates]
        click.echo(align([(item.name, item.summary + more) for item, more in zip(templates, remarks, strict=True)]))
