"""`sandbox exec`."""

from __future__ import annotations

import shlex

import click

from engine.cli.options import name_option


class ExecCommand(click.Command):
    """A command of the form `[NAME] -- COMMAND...`: a word before `--` that is no option is the sandbox's name."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS]", "[NAME]", "--", "COMMAND..."]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" not in args:
            rest = super().parse_args(ctx, args)
            _check_first_word(ctx)
            return rest
        at = args.index("--")
        # Before `--` our options may stand on both sides of the name; the options after it are those of the command.
        ctx.allow_interspersed_args = True
        rest = super().parse_args(ctx, args[:at])
        words = ctx.params["command"]
        if len(words) > 1 or (words and ctx.params["name"]):
            ctx.fail("only one sandbox's name may stand before `--`")
        if words:
            ctx.params["name"] = words[0]
        ctx.params["command"] = tuple(args[at + 1 :])
        return rest


def _check_first_word(ctx: click.Context) -> None:
    """Without `--` all words are the command. Raises UsageError where the first one is a sandbox or a service."""
    from engine.errors import EngineError
    from engine.lifecycle.selection import choose, names_of_sandboxes, open_layout

    words: tuple[str, ...] = ctx.params.get("command") or ()
    name = ctx.params.get("name")
    if len(words) < 2 or ctx.resilient_parsing:
        return
    first, rest = words[0], shlex.join(words[1:])
    try:
        layout = open_layout()
        sandboxes = names_of_sandboxes(layout)
    except (EngineError, OSError):
        return  # whoever runs the command says so
    try:
        instance = choose(layout, name).instance if sandboxes else None
    except (EngineError, OSError):
        instance = None
    if instance and first in instance.services:
        way = f"`sandbox exec -- docker compose exec {first} {rest}`"
        ctx.fail(f"{first} is a service: {way}; a command of that name: `sandbox exec -- {first} {rest}`")
    if first in sandboxes:
        ctx.fail(f"{first} is a sandbox: `sandbox exec {first} -- {rest}`")


@click.command(
    "exec",
    cls=ExecCommand,
    context_settings={"allow_interspersed_args": False},
    epilog="""\b
Examples:
  sandbox exec -- docker compose ps
  sandbox exec -it -- bash
  sandbox exec shop -- npm test               the sandbox called shop
  sandbox exec -u root -w / -e DEBUG=1 -- ./install.sh
  cat dump.sql | sandbox exec -i -- psql -U postgres
""",
)
@name_option
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Run it in a terminal.")
@click.option("-w", "--workdir", metavar="DIR", help="Directory in the guest; default: the first mount's target.")
@click.option("-e", "--env", "variables", metavar="K=V", multiple=True, help="Environment variable; repeatable.")
@click.option("-u", "--user", metavar="USER", default="agent", show_default=True, help="User in the guest.")
@click.argument("command", nargs=-1)
def command(
    name: str | None,
    interactive: bool,
    tty: bool,
    workdir: str | None,
    variables: tuple[str, ...],
    user: str,
    command: tuple[str, ...],
) -> int:
    """Run COMMAND in a sandbox.

    The command's stdout and stderr stay separate. `exec` ends with the command's exit code, 128 + N when signal N
    ended it.
    """
    from engine.cli.exec_call import ExecCall, find_mistake, run_call

    call = ExecCall(command, name, interactive, tty, workdir, variables, user)
    if mistake := find_mistake(call):
        message, option = mistake
        raise click.BadParameter(message, param_hint=option) if option else click.UsageError(message)
    return run_call(call)
