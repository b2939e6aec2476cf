"""Which sandboxes of a file a command means."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.state.layout import Layout
    from sandboxfile import Loaded


class Member(NamedTuple):
    """One sandbox: its name, and its part of the file."""

    name: str
    loaded: Loaded


class Members(NamedTuple):
    """The sandboxes that a command means. `whole` covers all of them: the user approves it at once."""

    whole: Loaded
    each: tuple[Member, ...]


def choose_members(loaded: Loaded, layout: Layout, name: str | None, agent: str | None) -> Members:
    """The sandboxes of the file, in the order of its `agents`. `agent` picks one of them, `name` renames a single one.

    Raises EngineError (exit code 2) for an agent that the file does not have, and for a name with several sandboxes.
    """
    from engine.lifecycle.selection import check_name

    whole = loaded if agent is None else pick(loaded, agent)
    each = whole.each() if agent is None else (whole,)
    if name is not None and len(each) > 1:
        agents = ", ".join(str(one.agent_name) for one in each)
        hint = f"--name needs --agent with one of {agents}"
        raise EngineError("the file has several sandboxes, and there is one name", hint=hint, exit_code=2)
    names = [check_name(layout, one.sandbox.name if name is None else name) for one in each]
    return Members(whole, tuple(map(Member, names, each)))


def pick(loaded: Loaded, agent: str) -> Loaded:
    """The sandbox of one agent of the file. Raises EngineError (exit code 2) when there is no such agent."""
    for one in loaded.members:
        if one.agent_name == agent:
            return one
    names = ", ".join(str(one.agent_name) for one in loaded.members)
    hint = f"there are: {names}" if names else "this file has one sandbox, and no `agents`"
    raise EngineError(f"the file has no agent called {agent}", hint=hint, exit_code=2)
