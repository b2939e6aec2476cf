"""`sandbox attach`."""

from __future__ import annotations

import click

from engine.cli.options import detach_keys_option, name_argument


@click.command(
    "attach",
    epilog="""\b
Examples:
  sandbox attach                    this project's agent, in this terminal, too
  sandbox attach shop --read-only   look at it, and type nothing by mistake
  sandbox attach --detach-keys ctrl-a,d
""",
)
@detach_keys_option
@click.option("--read-only", is_flag=True, help="Only look: nothing that is typed here reaches the agent.")
@name_argument
def command(name: str | None, detach_keys: str | None, read_only: bool) -> int:
    """Join this terminal to the agent's, which may have several terminals.

    The screen is painted anew, in the size of the terminal where somebody typed last. The agent goes on when its
    terminals detach, are closed or lost; when it ends, they end with its exit code. An agent that has ended is started
    anew. With a new machine, or a new guestd in it, the session is gone.
    """
    from engine.cli.agent_terminal import chosen_keys, join_agent, on_terminal
    from engine.cli.waking import choose_awake
    from engine.errors import EngineError
    from engine.lifecycle.selection import open_layout

    keys = chosen_keys(detach_keys)
    if not on_terminal():
        hint = "`sandbox exec` runs commands, `sandbox run` gives an agent a task without one"
        raise EngineError("attach needs a terminal", hint=hint, exit_code=2)
    layout = open_layout()
    instance, _ = choose_awake(layout, name)
    return join_agent(layout, instance, keys, again=True, read_only=read_only)
