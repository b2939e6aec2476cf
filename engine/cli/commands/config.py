"""`sandbox config`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import file_options, json_option, path_argument

if TYPE_CHECKING:
    from sandboxfile.writing.dump import Origin


@click.command(
    "config",
    epilog="""\b
Examples:
  sandbox config                         the file as it counts: all layers, all variables
  sandbox config --origins               where each value was written
  sandbox config --json | jq .machine
  sandbox config --set machine.memory=8GiB --agent frontend
""",
)
@click.option("--origins", is_flag=True, help="One line for each value, defaults too: path, value, source.")
@click.option("--all", "defaults", is_flag=True, help="Include the default of everything that is not written.")
@click.option("--agent", "agent", metavar="NAME", help="Only the sandbox of this one of the file's `agents`.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of the file instead, for editors.")
@json_option("The values as JSON; with --origins a list of objects.")
@file_options
@path_argument
def command(
    path: Path | None,
    origins: bool,
    defaults: bool,
    agent: str | None,
    schema: bool,
    as_json: bool,
    files: tuple[Path, ...],
    assignments: tuple[str, ...],
) -> None:
    """Show the file with all variables and layers resolved. What is printed is a Sandboxfile again.

    The first of these that has a value wins: --set, -f files (the last one first), Sandboxfile.local.yaml,
    Sandboxfile.yaml, included Compose files. Variables come from the environment, else from the project's .env.
    """
    if schema:
        from sandboxfile.pages.schema import render_schema

        click.echo(render_schema(), nl=False)
        return
    from engine.cli.showing.findings import show
    from engine.lifecycle.members import pick
    from engine.lifecycle.project_file import load_file
    from sandboxfile.writing.dump import origins as origins_of
    from sandboxfile.writing.dump import to_data, to_text

    whole = load_file(path, files, assignments)
    show(whole.warnings, whole.path)
    loaded = pick(whole, agent) if agent is not None else whole
    if origins:
        rows = list(origins_of(loaded.sandbox, loaded.document(), loaded.variables))
        click.echo(_json([_row(row) for row in rows]) if as_json else _table(rows))
    elif as_json:
        click.echo(_json(to_data(loaded.sandbox, defaults=defaults)))
    else:
        click.echo(to_text(loaded.sandbox, defaults=defaults), nl=False)


def _row(origin: Origin) -> dict[str, Any]:
    return {
        "path": list(origin.path),
        "value": origin.value,
        "source": origin.source,
        "variables": list(origin.variables),
    }


def _table(rows: list[Origin]) -> str:
    from engine.report.columns import align
    from engine.report.text import cut
    from sandboxfile.diagnostics import printable
    from sandboxfile.positions import render_path

    cells = []
    for row in rows:
        text = str(row.value).lower() if isinstance(row.value, bool) else str(row.value)
        source = f"{row.source} with {', '.join(row.variables)}" if row.variables else row.source
        shown = printable(cut(text, 50))
        cells.append((printable(render_path(row.path)), shown, printable(source)))
    return align(cells)


def _json(value: Any) -> str:
    import json

    return json.dumps(value, indent=2, ensure_ascii=False)
