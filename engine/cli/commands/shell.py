"""`sandbox shell`."""

from __future__ import annotations

import click

from engine.cli.options import complete_names

# The user's own: `exec` knows no other shell than the one that it is told.
SHELL = ("sh", "-c", 'exec "${SHELL:-/bin/sh}" -l')


@click.command(
    "shell",
    epilog="""\b
Examples:
  sandbox shell                     beside the agent, in its workspace
  sandbox shell shop -u root -w /
""",
)
@click.option("-w", "--workdir", metavar="DIR", help="Directory in the guest; default: the first mount's target.")
@click.option("-u", "--user", metavar="USER", default="agent", show_default=True, help="User in the guest.")
@click.argument("words", metavar="[NAME]", nargs=-1, shell_complete=complete_names)
def command(words: tuple[str, ...], workdir: str | None, user: str) -> int:
    """Open a login shell in a sandbox, beside its agent.

    It ends with this terminal. A command is run by `sandbox exec`.
    """
    import shlex

    from engine.cli.exec_call import ExecCall, find_mistake, run_call
    from engine.errors import EngineError
    from engine.lifecycle.selection import names_of_sandboxes, open_layout

    if len(words) > 1:
        named = words[0] in names_of_sandboxes(open_layout())
        meant = shlex.join([words[0], "--", *words[1:]] if named else ["--", *words])
        raise EngineError("shell takes no command", hint=f"`sandbox exec -it {meant}` runs one", exit_code=2)
    name = words[0] if words else None
    call = ExecCall(SHELL, name, interactive=True, tty=True, workdir=workdir, user=user)
    if find_mistake(call):
        raise EngineError("shell needs a terminal", hint="`sandbox exec` runs commands", exit_code=2)
    return run_call(call)
