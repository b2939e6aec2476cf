"""docs/cli.md, generated from the help of the commands: `python -m engine.cli.manual > docs/cli.md`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from engine.cli.group import cli
from engine.cli.names import COMMANDS, PROGRAM, SECTIONS

_WIDTH = 100
_HEAD = f"""\
# The command line

<!-- generated: python -m engine.cli.manual > docs/cli.md -->

What `{PROGRAM} COMMAND --help` prints.
"""


def render_manual() -> str:
    """The page as Markdown."""
    parts = [_HEAD, *_contents()]
    for title, commands in SECTIONS.items():
        parts.append(f"\n## {title}\n")
        for name in commands:
            parts += _pages(name)
    return "\n".join(parts)


def _contents() -> Iterator[str]:
    for title, commands in SECTIONS.items():
        links = ", ".join(f"[{name}](#{PROGRAM}-{name})" for name in commands)
        yield f"- {title}: {links}"


def _pages(name: str) -> Iterator[str]:
    """The pages of a command and of the commands in it."""
    # The page has a width of its own, independent of the terminal. Inner contexts inherit it.
    root = cli.make_context(PROGRAM, [], resilient_parsing=True, terminal_width=_WIDTH, max_content_width=_WIDTH)
    command = cli.get_command(root, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=root)
    yield _page("###", context, COMMANDS[name])
    inside = command if isinstance(command, click.Group) else click.Group()
    for inner in inside.list_commands(context):
        child = inside.get_command(context, inner)
        assert child is not None
        yield _page("####", click.Context(child, info_name=inner, parent=context))


def _page(heading: str, context: click.Context, summary: str = "") -> str:
    text = "\n".join(line.rstrip() for line in context.get_help().splitlines())
    head = "\n\n".join(filter(None, (f"{heading} {context.command_path}", summary)))
    return f"{head}\n\n```text\n{text}\n```\n"


if __name__ == "__main__":
    print(render_manual(), end="")
