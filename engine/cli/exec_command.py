"""`sandbox exec`."""

from __future__ import annotations

import asyncio
import sys

import click


class ExecCommand(click.Command):
    """`[NAME] -- COMMAND...`: what stands before `--` and is no option names the sandbox."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            before, after = args[:at], args[at + 1 :]
            rest = super().parse_args(ctx, [*before])
            words = list(ctx.params.pop("command", ()))
            if len(words) > 1:
                ctx.fail(f"one sandbox's name may stand before --, not {' '.join(words)!r}")
            if words:
                ctx.params["name"] = words[0]
            ctx.params["command"] = tuple(after)
            return rest
        return super().parse_args(ctx, args)


@click.command("exec", cls=ExecCommand, context_settings={"allow_interspersed_args": False})
@click.option("-n", "--name", help="The sandbox; default: the one of this project.")
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Run it in a terminal.")
@click.option("-w", "--workdir", metavar="DIR", help="Directory in the guest; default: the first mount's target.")
@click.option("-e", "--env", "variables", metavar="K=V", multiple=True, help="Environment variable; repeatable.")
@click.option("-u", "--user", default="agent", show_default=True, help="User in the guest.")
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
    """Run COMMAND in a sandbox: `sandbox exec [-it] [NAME] -- COMMAND...`

    Its output arrives on separate stdout and stderr, its exit code is ours (128 + N when signal N ended it).
    """
    from engine.cli.selection import choose_running, open_layout

    if not command:
        raise click.UsageError("no command given, such as: sandbox exec -- ls -l")
    env = {}
    for variable in variables:
        key, equals, value = variable.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{variable!r} is not NAME=VALUE", param_hint="-e")
        env[key] = value
    if tty and not sys.stdin.isatty():
        raise click.UsageError("-t needs a terminal as standard input; leave it out in scripts")
    instance, control = choose_running(open_layout(), name)
    cwd = workdir or instance.summary.get("working_directory")
    return asyncio.run(_attach(control, list(command), tty=tty, interactive=interactive, user=user, cwd=cwd, env=env))


async def _attach(control, argv, **options) -> int:  # type: ignore[no-untyped-def]
    from vmm.channel.client import attach, connect

    async with await connect(control) as client:
        return await attach(client, argv, **options)
