"""`sandbox completion`."""

from __future__ import annotations

import click


@click.command(
    "completion",
    epilog="""\b
To use it:
  bash   echo 'eval "$(sandbox completion bash)"' >> ~/.bashrc
  zsh    echo 'eval "$(sandbox completion zsh)"' >> ~/.zshrc
  fish   sandbox completion fish > ~/.config/fish/completions/sandbox.fish
""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print what SHELL needs to complete commands, options, and names of sandboxes and services."""
    from click.shell_completion import get_completion_class

    from engine.cli.group import cli
    from engine.cli.names import COMPLETE, PROGRAM

    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(cli, {}, PROGRAM, COMPLETE).source())
