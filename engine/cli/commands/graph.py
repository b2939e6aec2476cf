"""`sandbox graph`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.json_errors import note_format
from engine.cli.options import file_options, json_option, path_argument
from engine.cli.suggestions import complete_agents
from engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.drawing.picture import Picture, State

FORMATS = ("text", "dot", "mermaid", "svg", "json")


@click.command(
    "graph",
    epilog="""\b
Examples:
  sandbox graph
  sandbox graph --format svg -o sandbox.svg
  sandbox graph --format dot | dot -Tpng > sandbox.png
  sandbox graph --json | jq '.sandboxes[].parts[] | select(.state == "build").id'
""",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="The output format.",
    is_eager=True,
    callback=note_format,
)
@json_option("The same as --format json: `sandboxes` with `parts`.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    metavar="FILE",
    help="Write to FILE instead of to standard output.",
)
@click.option(
    "--agent", metavar="AGENT", help="Only the sandbox of this one of `agents`.", shell_complete=complete_agents
)
@file_options
@path_argument
def command(
    path: Path | None,
    agent: str | None,
    format_: str,
    as_json: bool,
    output: Path | None,
    files: tuple[Path, ...],
    assignments: tuple[str, ...],
) -> None:
    """Draw what is built from what, and what each `up` puts on top of it. Changes nothing.

    PATH is a directory or a file; default: the nearest Sandboxfile.yaml upwards. Each part is cached, to be built, or
    made anew by each `up`. A file with `agents` gives one picture for each agent.
    """
    from engine.lifecycle.members import pick
    from engine.lifecycle.project_file import load_file
    from engine.lifecycle.selection import open_layout
    from engine.resolve.preflight import check_host

    loaded = load_file(path, files, assignments)
    each = loaded.each() if agent is None else (pick(loaded, agent),)
    for one in each:
        check_host(one, ports=False)
    from engine.drawing.of_file import draw_file  # here, since the import takes a while and a bad file ends before it

    layout = open_layout()
    text = _draw([draw_file(one, layout) for one in each], "json" if as_json else format_, output)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EngineError(f"{output} cannot be written: {error.strerror}") from None


def _draw(pictures: Sequence[Picture], format_: str, output: Path | None) -> str:
    if format_ == "dot":
        from engine.drawing.dot import draw_dot

        return draw_dot(pictures)
    if format_ == "mermaid":
        from engine.drawing.mermaid import draw_mermaid

        return draw_mermaid(pictures)
    if format_ == "svg":
        from engine.drawing.svg import draw_svg

        return draw_svg(pictures)
    if format_ == "json":
        import json

        document = {"version": 1, "sandboxes": [picture.to_json() for picture in pictures]}
        return json.dumps(document, indent=2) + "\n"
    from engine.drawing.text import draw_text

    plain = output is None and not (sys.stdout.encoding or "").lower().startswith("utf")
    return draw_text(pictures, paint=None if output is not None else _paint, plain=plain)


def _paint(text: str, state: State) -> str:
    from engine.cli.showing.emphasis import emphasize

    colour = {"cached": "green", "build": "yellow", "each up": "cyan", "not needed": "white", "declared": "white"}
    return emphasize(text, colour[state], sys.stdout)
