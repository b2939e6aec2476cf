"""How an agent's task ended: its exit code, and why, in words, where it did not end well."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.report.text import clean_line
from engine.state.instances import AgentCall
from vmm.channel.guest import OUTPUT_LIMIT, GuestChannel, Tail
from vmm.errors import VmmError

TIMED_OUT = 124  # the exit code of `timeout`, too
LAST_LINES = 10
_LAST_BYTES = 4096
_LOOK_S = 10.0
_KILLS = re.compile(r"^oom_kill (\d{1,18})$", re.MULTILINE)


@dataclass(frozen=True)
class End:
    """`code` is the agent's, 124 when its time was over. `output` is what it printed on standard output.

    `why` says in one line what went wrong, None where nothing did. `last_words` are the last lines of both its streams.
    """

    code: int
    output: str
    seconds: float
    why: str | None = None
    last_words: tuple[str, ...] = ()


async def run_agent(
    guest: GuestChannel,
    agent: AgentCall,
    argv: list[str],
    cwd: str | None,
    timeout_s: float,
    on_stderr: Callable[[bytes], None],
) -> End:
    """Run the agent's command, without anything on its standard input, for `timeout_s` seconds at most.

    Raises GuestError where the guest is gone.
    """
    kept, words = bytearray(), Tail(_LAST_BYTES)

    def take(stream: str, data: bytes) -> None:
        words.append(data)
        if stream == "stderr":
            on_stderr(data)
        elif len(kept) < OUTPUT_LIMIT:
            kept.extend(data)

    kills = await _memory_kills(guest)
    began = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            limit_s = 2 * timeout_s + 60
            done = await guest.run(
                argv, user=agent.user, cwd=cwd, env=agent.env, timeout_s=limit_s, on_output=take, keep=1
            )
        code = done.code
        why = f"it ended with code {code}{_signal(code)}" if code else None
    except TimeoutError:
        code, why = TIMED_OUT, f"it was not done within {timeout_s:g} s; nobody answers questions here"
    seconds = time.monotonic() - began
    if code and kills is not None and (now := await _memory_kills(guest)) is not None and now > kills:
        more = f" ({why})" if code != TIMED_OUT else ""
        why = f"the machine ran out of memory, and its kernel ended {now - kills} of its processes{more}"
    last = _lines(words.join()) if code else ()
    return End(code, kept.decode(errors="replace"), seconds, why, last)


async def _memory_kills(guest: GuestChannel) -> int | None:
    """How many processes the guest's kernel has ended for want of memory; None where it does not say."""
    try:
        done = await guest.run(["cat", "/proc/vmstat"], timeout_s=_LOOK_S, keep=1 << 16)
    except VmmError:
        return None
    found = _KILLS.search(done.stdout.decode(errors="replace"))
    return int(found[1]) if found else None


def _signal(code: int) -> str:
    try:
        return f", by signal {signal.Signals(code - 128).name}" if code > 128 else ""
    except ValueError:
        return ""


def _lines(data: bytes) -> tuple[str, ...]:
    lines = (clean_line(line).rstrip() for line in data.decode(errors="replace").splitlines())
    return tuple([line for line in lines if line][-LAST_LINES:])
