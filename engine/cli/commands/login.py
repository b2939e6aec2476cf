"""`sandbox login`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from engine.cli.options import name_option

if TYPE_CHECKING:
    from engine.agents.definition import AgentDefinition, Credential
    from engine.state.layout import Layout


class _Login(click.Command):
    """The command, with what each agent does at the end of its help. The definitions are read for that only."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        from engine.agents import list_agents

        with formatter.section("Agents"):
            formatter.write_dl([(agent.name, _what_it_does(agent)) for agent in list_agents()], col_max=14)


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from engine.agents import known_agents

    return [name for name in known_agents() if name.startswith(incomplete)]


@click.command(
    "login",
    cls=_Login,
    epilog="""\b
Examples:
  sandbox login claude-code --kind subscription   paste what `claude setup-token` has printed
  sandbox login codex --inside                    Codex's own login, in the running sandbox
""",
)
@click.argument("agent", shell_complete=_complete)
@click.option("--kind", metavar="KIND", help="The kind of credential, where the agent takes several.")
@click.option("--inside", is_flag=True, help="Run the agent's own login in a sandbox: its token is then in the guest.")
@click.option("-y", "--yes", is_flag=True, help="With --inside: agree to that.")
@name_option
def command(agent: str, kind: str | None, inside: bool, yes: bool, name: str | None) -> int:
    """Give an agent what it signs in with.

    A key or token is asked for, not shown, and kept as `sandbox secret set` keeps it: the guest has a placeholder.
    Where an agent can only sign in by a flow of its own, that runs in the sandbox of this project, and the token that
    it gets lives in the guest: whatever runs there can read it, and it is gone when the sandbox is.
    """
    from engine.agents import load_agent
    from engine.lifecycle.selection import open_layout

    definition, layout = load_agent(agent), open_layout()
    if inside and kind is not None:
        raise click.UsageError("--inside and --kind exclude each other")
    if inside or (not definition.credentials and kind is None):
        return _inside(layout, definition, name, yes)
    if name is not None:
        raise click.UsageError("-n is for --inside: a value is kept for all sandboxes")
    _keep(layout, definition, _chosen(definition, kind))
    return 0


def _chosen(definition: AgentDefinition, kind: str | None) -> Credential:
    from engine.lifecycle.login import choose_kind

    if (credential := choose_kind(definition, kind)) is not None:
        return credential
    kinds = list(definition.credentials)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError(f"{definition.title} takes several kinds of credentials: --kind {' or '.join(kinds)}")
    for each, one in definition.credentials.items():
        click.echo(f"  {each}: {one.summary}", err=True)
    return definition.credentials[click.prompt("Which", type=click.Choice(kinds), default=kinds[0], err=True)]


def _keep(layout: Layout, definition: AgentDefinition, credential: Credential) -> None:
    from engine.cli.commands.secret import read_value, tell_kept
    from engine.lifecycle.login import check_kind
    from engine.lifecycle.secret import keep
    from engine.secrets.core_dumps import forbid_core_dumps
    from engine.secrets.sources import check_value

    forbid_core_dumps()
    click.echo(f"{definition.title} takes {credential.summary}", err=True)
    if credential.obtain is not None and sys.stdin.isatty():
        click.echo(f"  {credential.obtain}", err=True)
    value, label = read_value(credential.secret, False, None, None)
    check_kind(definition, credential, check_value(value, label))
    tell_kept(credential.secret, keep(layout, credential.secret, value, label))


def _inside(layout: Layout, definition: AgentDefinition, name: str | None, yes: bool) -> int:
    from engine.cli.attached import run_attached
    from engine.errors import EngineError
    from engine.lifecycle.login import login_inside

    login = login_inside(layout, definition, name)
    sandbox = login.instance.name
    click.echo(
        f"{definition.title} signs in inside {sandbox}. The token that it gets lives in the guest: whatever runs there"
        f" can read it and send it to what the sandbox may reach. It is gone with the sandbox.\n"
        f"  needs {', '.join(login.hosts)}: `sandbox allow HOST` for what the file does not allow",
        err=True,
    )
    tty = sys.stdin.isatty() and sys.stdout.isatty()
    if not yes:
        if not (tty and sys.stderr.isatty()):
            raise EngineError("nobody is here to agree to that", hint="--yes does", exit_code=2)
        click.confirm("Sign in there?", abort=True, err=True)
    env = login.instance.agent.env if login.instance.agent is not None else None
    cwd = login.instance.working_directory
    return run_attached(login.control, login.command, user=login.user, cwd=cwd, env=env, tty=tty, interactive=True)


def _what_it_does(agent: AgentDefinition) -> str:
    kept = [f"{kind}: {one.summary}, kept as the secret {one.secret}" for kind, one in agent.credentials.items()]
    inside = [f"--inside: `{' '.join(agent.commands.login.command)}`"] if agent.commands.login is not None else []
    return "; ".join([*kept, *inside]) or "signs in by itself, in its program"
