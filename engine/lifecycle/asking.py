"""Asking somebody about the names that a running sandbox wants to reach and that no endpoint names."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from engine.lifecycle.temporary import Said
    from engine.state.layout import Layout

Answer = Literal["once", "always", "never", "not now"]
_ANSWER_S = 30.0


@dataclass(frozen=True)
class NameQuestion:
    """May the sandbox reach this host and port? Its connections wait, at most `left_s` seconds more.

    `why` are words of the guest's, if it has asked for the name.
    """

    sandbox: str
    host: str
    port: int
    left_s: float
    why: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        return self.sandbox, self.host, self.port

    @property
    def name(self) -> str:
        return self.host if self.port in (80, 443) else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class QuestionClosed:
    """A question has had its answer, from whomever, or its time is over: then `why` says so."""

    sandbox: str
    host: str
    port: int
    why: str

    @property
    def key(self) -> tuple[str, str, int]:
        return self.sandbox, self.host, self.port


@dataclass(frozen=True)
class Watching:
    """From now on connections of the sandbox to unknown names wait."""

    sandbox: str


async def questions(layout: Layout, sandbox: str) -> AsyncIterator[Watching | NameQuestion | QuestionClosed]:
    """The questions of a running sandbox, until it ends. While this is read, its connections to unknown names wait.

    Raises GuestError where its supervisor does not answer.
    """
    from vmm.channel.client import connect
    from vmm.channel.errors import GuestError

    rest = b""
    async with await connect(layout.instance(sandbox).sockets.control) as client:
        async with client.open("ask") as stream:
            while True:
                try:
                    chunk = await stream.receive()
                except GuestError:
                    return  # the sandbox has ended
                if chunk is None:
                    return
                *lines, rest = (rest + chunk[1]).split(b"\n")
                for line in lines:
                    told = json.loads(line)
                    if "watching" in told:
                        yield Watching(sandbox)
                    elif "question" in told:
                        yield NameQuestion(sandbox, **told["question"])
                    else:
                        yield QuestionClosed(sandbox, **told["closed"])


async def answer(layout: Layout, question: NameQuestion, word: Answer) -> Said | None:
    """Give an answer: `once` and `never` until the sandbox ends, `always` in its file as well; `not now` refuses.

    Raises EngineError, SandboxfileError and GuestError.
    """
    from engine.lifecycle.temporary import Saying, say
    from vmm.channel.client import connect

    if word != "not now":
        saying = Saying(question.name, deny=word == "never", save=word == "always")
        return await say(layout, question.sandbox, saying)
    async with await connect(layout.instance(question.sandbox).sockets.control) as client:
        await client.call("dismiss", timeout_s=_ANSWER_S, host=question.host, port=question.port)
    return None
