"""`login`: what an agent signs in with, kept on the user's side, or, where it has no such form, left in its machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.secrets.rules import kind_of, placeholder_for

if TYPE_CHECKING:
    from engine.agents.definition import AgentDefinition, Credential
    from engine.state.instances import Instance
    from engine.state.layout import Layout


@dataclass(frozen=True)
class InsideLogin:
    """The agent's own login, which runs in the machine of `instance` behind the socket `control`.

    What comes of it is in the guest: `hosts` are those that it needs.
    """

    instance: Instance
    control: Path
    command: tuple[str, ...]
    user: str
    hosts: tuple[str, ...]


def choose_kind(definition: AgentDefinition, kind: str | None) -> Credential | None:
    """The kind of credential that is meant; None where the user has to say which of several.

    Raises EngineError (exit code 2) for a kind that the agent does not have.
    """
    kinds = definition.credentials
    if kind is None:
        return next(iter(kinds.values())) if len(kinds) == 1 else None
    if kind not in kinds:
        hint = f"there is {', '.join(kinds)}" if kinds else "it signs in inside its machine: leave out --kind"
        raise EngineError(f"{definition.title} has no credential called {kind}", hint=hint, exit_code=2)
    return kinds[kind]


def check_kind(definition: AgentDefinition, credential: Credential, value: str) -> None:
    """Raises EngineError for a value that is another kind of credential by its looks: the agent would be refused."""
    host = credential.inject[0].host
    looks = kind_of(credential.secret, value, host)
    if looks is None or placeholder_for(credential.secret, looks, host) == credential.placeholder:
        return
    other = next(
        (
            (name, one.summary)
            for name, one in definition.credentials.items()
            if one.placeholder == placeholder_for(credential.secret, looks, host) and one.secret == credential.secret
        ),
        None,
    )
    hint = f"`sandbox login {definition.name} --kind {other[0]}` takes {other[1]}" if other else None
    raise EngineError(f"this is not {credential.summary}, by its looks", hint=hint)


def login_inside(layout: Layout, definition: AgentDefinition, name: str | None) -> InsideLogin:
    """The agent's login in a running sandbox whose agent it is.

    Raises EngineError where the agent has none, where no sandbox runs, and where the sandbox has another agent.
    """
    from engine.lifecycle.selection import choose_running
    from engine.state.configuration import load_running

    login = definition.commands.login
    if login is None:
        raise EngineError(f"{definition.title} has no login that runs inside its machine", exit_code=2)
    instance, control = choose_running(layout, name)
    running = load_running(layout, instance.name)
    agent = (running.configuration.sandbox.get("agent") if running is not None else None) or {}
    if agent.get("use") != definition.name:
        has = f"its agent is {agent['use']}" if agent.get("use") else "it has no agent that is known"
        raise EngineError(f"{instance.name} is no sandbox of {definition.title}: {has}")
    user = instance.agent.user if instance.agent is not None else "agent"
    hosts = dict.fromkeys((*login.hosts, *(needed.host for needed in definition.hosts)))
    return InsideLogin(instance, control, login.command, user, tuple(hosts))
