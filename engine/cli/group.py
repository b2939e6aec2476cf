"""The group of all commands. A command's module is imported when the command is called: `exec` must not load `up`."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

import click

from engine.cli.habits import ALIASES, OPTIONS, WAYS
from engine.cli.names import COMMANDS, COMPLETE, HIDDEN, PROGRAM, SECTIONS, module_of

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def run(arguments: list[str]) -> Any:
    """Run one command and return its result, which is the exit code if it is a number. Raises click's exceptions."""
    # click's own `main` ends the process with 1 when the reader of our output is gone, and that is no failure.
    if instruction := os.environ.get(COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, PROGRAM, COMPLETE, instruction)
    if arguments == ["version"]:
        arguments = ["--version"]
    elif arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    try:
        with cli.make_context(PROGRAM, list(arguments)) as context:
            return cli.invoke(context)
    except click.NoSuchOption as error:
        if way := _way(error):
            raise click.UsageError(f"There is no option {error.option_name!r}: {way}", error.ctx) from None
        raise


def _way(error: click.NoSuchOption) -> str | None:
    """What to type in place of an option that other tools have and this command has not."""
    if error.ctx is None:
        return None
    ways = OPTIONS.get(error.ctx.command_path.removeprefix(f"{PROGRAM} "), {})
    has_json = any("--json" in param.opts for param in error.ctx.command.params)
    return ways.get(error.option_name) or ("--json." if has_json and error.option_name == "--format" else None)


class LazyGroup(click.Group):
    """A group that knows the names of its commands, and imports a command only when click asks for it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        cmd_name = ALIASES.get(cmd_name, cmd_name)
        if cmd_name not in COMMANDS and cmd_name not in HIDDEN:
            return None
        command: click.Command = importlib.import_module(module_of(cmd_name)).command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        # The inherited method would import every command, for its help text.
        names = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()), col_max=12)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in (*COMMANDS, *HIDDEN, *ALIASES) and not ctx.resilient_parsing:
            import difflib

            if way := WAYS.get(args[0]):
                ctx.fail(f"There is no command {args[0]!r}: {way}")
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else "`sandbox --help` lists them."
            ctx.fail(f"There is no command {args[0]!r}. {hint}")
        return super().resolve_command(ctx, args)


@click.command(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="sandboxfile", prog_name=PROGRAM)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run coding agents in microVMs that a committed Sandboxfile.yaml describes.

    \b
      sandbox up                    start the sandbox of this project and run its agent
      sandbox shell                 look around inside
      sandbox down                  leave nothing behind

    Inside a project a sandbox's name can be left out. Exit codes: 0, 1 failed, 2 bad file or usage, 3 a bug of ours,
    130 interrupted; those of `exec` and of an agent in this terminal are the command's own. With
    --json, errors are on standard output, too, as `validate --json` has them.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
