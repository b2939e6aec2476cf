"""The bytes of a session: pieces of lines, an agent that ends, an editor that goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.acp import session
from engine.acp.messages import Conversation
from engine.acp.places import Place, Places
from engine.acp.session import Messages, converse
from engine.errors import EngineError


class Scripted:
    """An agent that says `chunks`, and ends when its input does, with what it has heard."""

    def __init__(self, *chunks: tuple[int, bytes], stays: bool = True) -> None:
        self._chunks, self._stays = chunks, stays
        self._ended = asyncio.Event()
        self.heard: list[bytes] = []
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        for chunk in self._chunks:
            yield chunk
        if self._stays:
            await self._ended.wait()

    async def write_stdin(self, data: bytes) -> None:
        self.heard.append(data)

    def close_stdin(self) -> None:
        self._ended.set()

    def close(self) -> None:
        self.closed = True
        self._ended.set()

    async def wait(self) -> int:
        return 5


async def _talk(agent: Scripted, *said: bytes, gone: bool = True) -> tuple[int, list[bytes], list[bytes], list[str]]:
    editor = asyncio.StreamReader()
    for data in said:
        editor.feed_data(data)
    if gone:
        editor.feed_eof()
    told: list[bytes] = []
    errors: list[bytes] = []
    words: list[str] = []

    async def send(data: bytes) -> None:
        told.append(data)

    places = Places("x", [Place("/p", "/w")])
    code = await converse(Conversation(places), editor, send, agent, errors.append, words.append)
    return code, told, errors, words


def talk(agent: Scripted, *said: bytes, gone: bool = True) -> tuple[int, list[bytes], list[bytes], list[str]]:
    return asyncio.run(_talk(agent, *said, gone=gone))


def message(**fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **fields}).encode() + b"\n"


def test_pieces_of_lines_are_put_together() -> None:
    new = message(id=1, method="session/new", params={"cwd": "/p"})
    update = message(method="session/update", params={"update": {"locations": [{"path": "/w/a"}]}})
    agent = Scripted((1, b"a log line\n" + update[:9]), (2, b"beside\n"), (1, update[9:]))
    code, told, errors, words = talk(agent, new[:11], new[11:] + b"\n")
    assert code == 5 and errors == [b"beside\n"] and words == ["a line is no JSON"]
    assert [json.loads(each)["params"] for each in agent.heard] == [{"cwd": "/w"}]
    assert json.loads(told[0])["params"]["update"]["locations"] == [{"path": "/p/a"}]


def test_the_end_of_the_agent_ends_it() -> None:
    assert talk(Scripted(stays=False), gone=False)[0] == 5


def test_an_agent_that_stays_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "END_S", 0)
    agent = Scripted()
    agent.close_stdin = lambda: None  # type: ignore[method-assign]
    assert talk(agent)[0] == 5 and agent.closed


def test_an_endless_line_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LONGEST_MESSAGE", 100)
    with pytest.raises(EngineError, match="a message of the agent's is longer"):
        talk(Scripted((1, b"x" * 60), (1, b"x" * 60)), gone=False)
    with pytest.raises(EngineError, match="a message of the editor's is longer"):
        talk(Scripted(), b"x" * 101)


def test_lines() -> None:
    lines = Messages("a")
    assert lines.feed(b"one\n\n \ntw") == [b"one"]
    assert lines.feed(b"o") == []
    assert lines.feed(b"\nthree\n") == [b"two", b"three"]
