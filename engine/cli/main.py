"""`sandbox`: the group of commands. Each is imported when it is called: `exec` must not pay for `up`."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

# name -> what it does; one module of this package each, with a `command` in it.
COMMANDS = {
    "up": "Start the sandbox that Sandboxfile.yaml describes.",
    "down": "Stop sandboxes and remove everything they left.",
    "exec": "Run a command in a sandbox.",
    "cp": "Copy files into or out of a sandbox.",
    "ls": "List sandboxes.",
    "logs": "Show what services printed.",
    "console": "Show the guest's serial console.",
    "journal": "Show what the network gateway allowed and refused.",
    "plan": "Show what `up` would do, and why.",
    "validate": "Check Sandboxfile.yaml.",
    "doctor": "Show tools, accelerator and directories.",
}


class LazyGroup(click.Group):
    """Knows its commands by name and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"engine.cli.{cmd_name}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else " `sandbox --help` lists them."
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sandboxfile", prog_name="sandbox")
def cli() -> None:
    """Run coding agents in microVMs that a committed Sandboxfile.yaml describes.

    \b
      sandbox up              start the sandbox of this project and run its agent
      sandbox exec -it bash   look around inside
      sandbox down            leave nothing behind
    """


def main(arguments: list[str] | None = None) -> Any:
    """The console script: runs one command and ends the process with its exit code."""
    from engine.cli.boundary import guarded

    sys.exit(guarded(lambda: cli.main(args=arguments, prog_name="sandbox", standalone_mode=False)))


if __name__ == "__main__":
    main()
