"""The agent's session in a running sandbox: whether it is at work, and how many terminals look at it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from engine.state.instances import AgentCall
from vmm.channel.errors import GuestError
from vmm.channel.question import ask

NAME = "agent"  # of the session
ANSWER_S = 10.0  # a guest under load; one that was never heard of the question answers as fast
GLANCE_S = 1.0  # for `ls`, which must not wait for a guest that hangs


class AtWork(NamedTuple):
    """What a guest says of its agent's session. It may say anything, so the values are for showing and comparing.

    `terminals` is None while it does not run; `code` is how the last one has ended, None when there was none.
    """

    terminals: int | None = None
    code: int | None = None
    argv: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """In one word: `attached`, `detached`, or `ended`; `none` when it was not started in this machine."""
        if self.terminals is not None:
            return "attached" if self.terminals else "detached"
        return "none" if self.code is None else "ended"


def agent_at_work(control: Path, timeout_s: float = ANSWER_S) -> AtWork:
    """Ask the guest behind the control socket. Waits up to `timeout_s`, and as long for a hello. Raises GuestError."""
    answer = ask(control, "sessions", {}, timeout_s)
    running, ended = (_field(_field(answer, key), NAME) for key in ("running", "ended"))
    if running is None:
        return AtWork(code=_number(ended, "code", 255))
    argv = _field(running, "argv")
    words = tuple(map(str, argv)) if isinstance(argv, list) else ()
    return AtWork(_number(running, "viewers", 999) or 0, argv=words)


def look_at_agent(control: Path) -> AtWork | None:
    """The same for `ls`: None where nobody can tell. Waits GLANCE_S, and as long for a hello."""
    try:
        return agent_at_work(control, GLANCE_S)
    except GuestError:
        return None


def is_another(at_work: AtWork, agent: AgentCall) -> bool:
    """Whether the agent that runs was started with another command than the sandbox's record has by now."""
    return at_work.terminals is not None and at_work.argv != tuple(agent.command)


def _number(value: Any, name: str, most: int) -> int | None:
    number = _field(value, name)
    return number if type(number) is int and 0 <= number <= most else None


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
