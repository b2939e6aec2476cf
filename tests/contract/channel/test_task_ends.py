"""How an agent's task ends, with a real guestd: crashed, killed, waiting for an answer, out of time or memory."""

from __future__ import annotations

import asyncio
import os
import pwd
from typing import Any

import pytest

from engine.lifecycle import task_end
from engine.lifecycle.task_end import End, run_agent
from engine.state.instances import AgentCall

ME = pwd.getpwuid(os.geteuid()).pw_name


def ended(harness: Any, script: str, timeout_s: float = 30.0) -> tuple[End, bytes]:
    passed_on = bytearray()

    async def scenario() -> End:
        async with harness.start_guestd() as guestd:
            agent = AgentCall(["agent"], ME, {"WORD": "of the agent"})
            return await run_agent(guestd.channel, agent, ["sh", "-c", script], "/", timeout_s, passed_on.extend)

    return asyncio.run(scenario()), bytes(passed_on)


def test_one_that_ends_well(harness: Any) -> None:
    end, passed_on = ended(harness, 'echo "$WORD"; pwd; echo progress >&2')
    assert (end.code, end.output, end.why, end.last_words) == (0, "of the agent\n/\n", None, ())
    assert passed_on == b"progress\n"


def test_one_that_crashes(harness: Any) -> None:
    end, _ = ended(harness, "for n in $(seq 30); do echo line $n; done; printf 'bad \\033[31mword\\n' >&2; exit 7")
    assert end.code == 7 and end.why == "it ended with code 7"
    assert len(end.last_words) == task_end.LAST_LINES and "bad word" in end.last_words and "line 30" in end.last_words
    assert end.output.startswith("line 1\n")


def test_one_that_is_killed(harness: Any) -> None:
    end, _ = ended(harness, "echo so far; kill -9 $$")
    assert (end.code, end.why) == (137, "it ended with code 137, by signal SIGKILL")
    assert end.last_words == ("so far",)


def test_one_that_asks_a_question_gets_no_answer(harness: Any) -> None:
    end, _ = ended(harness, "printf 'Continue? [y/N] '; read answer || { echo; echo nobody answers; exit 3; }")
    assert end.code == 3 and end.last_words == ("Continue? [y/N]", "nobody answers")


def test_one_that_waits_on_is_ended_with_its_last_words(harness: Any) -> None:
    end, _ = ended(harness, "echo 'Continue? [y/N]'; exec sleep 1000", timeout_s=0.5)
    assert end.code == 124 and end.last_words == ("Continue? [y/N]",)
    assert end.why == "it was not done within 0.5 s; nobody answers questions here"


def test_one_that_has_no_memory_is_told_apart(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel counts what it ends for want of memory: here it ends nothing, and the counter is another one."""
    kills = iter([3, 5])

    async def count(guest: Any) -> int:
        return next(kills)

    monkeypatch.setattr(task_end, "_memory_kills", count)
    end, _ = ended(harness, "kill -9 $$")
    assert end.code == 137 and end.why is not None
    assert end.why.startswith("the machine ran out of memory, and its kernel ended 2 of its processes")


def test_the_kernel_says_how_many_it_has_ended(harness: Any) -> None:
    async def scenario() -> int | None:
        async with harness.start_guestd() as guestd:
            return await task_end._memory_kills(guestd.channel)

    assert asyncio.run(scenario()) is not None
