"""A scripted client holds a conversation with a model server through the gateway; only the server sees the real key."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from gateway_world import in_loop
from inside_world import HELD, HOST, VALUE, InsideWorld, inside_world
from model_server import ModelServer
from model_wires import FINAL, SHORT, text_of
from websocket_frames import BINARY, CLOSE, PING, PONG, TEXT, Reader, WebSocket, Writer, accept_for

from engine.gateway.rules import Injection, Rule

Json = dict[str, Any]
BEARER = Injection("key", "authorization", "bearer", drop=("x-api-key",), placeholders=(HELD,))
API_KEY = Injection("key", "x-api-key", "raw", drop=("authorization",), placeholders=(HELD,))
NONCE = "dGhlIHNhbXBsZSBub25jZQ=="
RESULT = "42\n"


def shell(name: str, argument: str) -> Json:
    return {"name": name, "input_schema": {"type": "object", "properties": {argument: {"type": "string"}}}}


async def events_of(reader: Reader) -> AsyncIterator[Json]:
    """One event of an SSE answer after the other, as chunks bring them."""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        chunk = await reader.readexactly(size)
        await reader.readexactly(2)
        for line in chunk.decode().splitlines():
            if line.startswith("data: ") and line != "data: [DONE]":
                yield json.loads(line.removeprefix("data: "))
    await reader.readexactly(2)


async def ask(reader: Reader, writer: Writer, path: str, body: Json, header: str) -> list[Json]:
    content = json.dumps({**body, "stream": True}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\n{header}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    return [event async for event in events_of(reader)]


def messages_turn(events: list[Json]) -> tuple[Json, list[Json]]:
    """The call of the tool, and what the client adds to the conversation."""
    start = next(event["content_block"] for event in events if event["type"] == "content_block_start")
    arguments = "".join(
        event["delta"].get("partial_json", "") for event in events if "index" in event and "delta" in event
    )
    call = {**start, "input": json.loads(arguments)}
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": RESULT}
    return call["input"], [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]


def chat_turn(events: list[Json]) -> tuple[Json, list[Json]]:
    (call,) = [call for event in events for call in event["choices"][0]["delta"].get("tool_calls", [])]
    added = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "call_1", "content": RESULT}]
    return json.loads(call["function"]["arguments"]), added


def responses_turn(events: list[Json]) -> tuple[Json, list[Json]]:
    (item,) = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    added = [item, {"type": "function_call_output", "call_id": item["call_id"], "output": RESULT}]
    return json.loads(item["arguments"]), added


USER = [{"role": "user", "content": "How much is 40 and 2?"}]
CHAT_TOOL = {"type": "function", "function": {"name": "bash", "parameters": {"properties": {"command": {}}}}}
RESPONSES_TOOL = {"type": "function", "name": "exec_command", "parameters": {"properties": {"cmd": {}}}}
WIRES: dict[str, Any] = {
    "messages": ("/v1/messages", "messages", shell("Bash", "command"), messages_turn, API_KEY, f"x-api-key: {HELD}"),
    "responses": ("/v1/responses", "input", RESPONSES_TOOL, responses_turn, BEARER, f"Authorization: Bearer {HELD}"),
    "chat": ("/v1/chat/completions", "messages", CHAT_TOOL, chat_turn, BEARER, f"Authorization: Bearer {HELD}"),
}


def key_of(injection: Injection) -> tuple[str, str]:
    return injection.header, VALUE if injection.form == "raw" else f"Bearer {VALUE}"


@pytest.mark.parametrize("wire", WIRES)
def test_a_conversation_over_server_sent_events(wire: str) -> None:
    path, key, tool, turn, injection, header = WIRES[wire]

    async def scenario() -> None:
        model = ModelServer(key_of(injection))
        rule = Rule(HOST, methods=("POST",), paths=(path,), injections=(injection,))
        async with inside_world(rule, handler=model.serve) as w:
            async with w.guest() as (reader, writer):  # one connection for all of it
                said = list(USER)
                call, added = turn(await ask(reader, writer, path, {key: said, "tools": [tool]}, header))
                assert list(call.values()) == ["expr 40 + 2"]
                said += added
                events = await ask(reader, writer, path, {key: said, "tools": [tool]}, header)
                assert text_of(events) == FINAL + RESULT and len(events) > 5
                said += [{"role": "assistant", "content": text_of(events)}, *USER]
                assert text_of(await ask(reader, writer, path, {key: USER}, header)) == SHORT
            lines = await w.quiet()
        assert model.refused == [] and [asked.over for asked in model.asked] == ["sse"] * 3
        assert RESULT in json.dumps(model.asked[1].body, ensure_ascii=False).replace("\\n", "\n")
        assert_only_the_real_key(model, injection, lines)

    in_loop(scenario())


def assert_only_the_real_key(model: ModelServer, injection: Injection, lines: list[Json]) -> None:
    name, value = key_of(injection)
    for asked in model.asked:
        assert asked.fields[name] == [value] and HELD not in repr(asked)
        assert ("x-api-key" in asked.fields) + ("authorization" in asked.fields) == 1
    assert {line["verdict"] for line in lines} == {"allowed"} and VALUE not in repr(lines)


async def upgrade(reader: Reader, writer: Writer, path: str = "/v1/responses") -> WebSocket:
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {NONCE}\r\nAuthorization: Bearer {HELD}\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ") and accept_for(NONCE).encode() in head
    return WebSocket(reader, writer, client=True)


def test_a_conversation_over_a_websocket() -> None:
    async def scenario() -> None:
        model = ModelServer(key_of(BEARER))
        rule = Rule(HOST, methods=("GET",), paths=("/v1/responses",), injections=(BEARER,))
        async with inside_world(rule, handler=model.serve) as w:
            async with w.guest() as (reader, writer):
                socket = await upgrade(reader, writer)

                async def turn(body: Json) -> list[Json]:
                    await socket.send(json.dumps({"type": "response.create", **body}).encode())
                    events: list[Json] = []
                    while not events or events[-1]["type"] != "response.completed":
                        kind, data = await socket.receive()
                        assert kind == TEXT
                        events.append(json.loads(data))
                    return events

                call, added = responses_turn(await turn({"input": USER, "tools": [RESPONSES_TOOL]}))
                assert call == {"cmd": "expr 40 + 2"}
                await socket.send(b"still here?", PING)
                assert await socket.receive() == (PONG, b"still here?")
                events = await turn({"input": added, "previous_response_id": "resp_1", "tools": [RESPONSES_TOOL]})
                assert text_of(events) == FINAL + RESULT
                await socket.close(1000, "thank you")
                assert await socket.receive() == (CLOSE, (1000).to_bytes(2, "big"))
                assert await reader.read(-1) == b""
            (line,) = await w.quiet()
        assert model.closed == [(1000, "thank you")] and [asked.over for asked in model.asked] == ["websocket"] * 2
        assert (line["method"], line["path"], line["how"]) == ("GET", "/v1/responses", "intercept")
        assert_only_the_real_key(model, BEARER, [line])

    in_loop(scenario())


def test_without_the_gateway_s_key_the_server_says_no() -> None:
    """So the conversations above are not held with the placeholder."""

    async def scenario() -> None:
        model = ModelServer(key_of(BEARER))
        async with inside_world(Rule(HOST, intercept=True), handler=model.serve) as w:
            async with w.guest() as (reader, writer):
                with pytest.raises(AssertionError):
                    await ask(reader, writer, "/v1/responses", {"input": USER}, f"Authorization: Bearer {HELD}")
        assert model.asked == [] and model.refused[0][1]["authorization"] == [f"Bearer {HELD}"]

    in_loop(scenario())


async def echo(reader: Reader, writer: Writer) -> None:
    """Messages come back in their kind; a close frame is answered with its own code."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert f"Bearer {VALUE}" in head
    accept = accept_for(head.lower().split("sec-websocket-key: ")[1].split("\r\n")[0].replace(NONCE.lower(), NONCE))
    writer.write(
        "HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    socket = WebSocket(reader, writer, client=False)
    while True:
        kind, data = await socket.receive()
        await socket.send(data, PONG if kind == PING else kind)
        if kind == CLOSE:
            return


def test_messages_of_every_kind_and_size_and_every_close_code() -> None:
    async def opened(w: InsideWorld, code: int) -> None:
        async with w.guest() as (reader, writer):
            socket = await upgrade(reader, writer)
            if code == 1000:
                for size in (0, 125, 126, 65535, 65536, 5 << 20):
                    for kind in (TEXT, BINARY):
                        data = os.urandom(size) if kind == BINARY else b"x" * size
                        sending = asyncio.create_task(socket.send(data, kind))
                        assert await socket.receive() == (kind, data)
                        await sending
                await socket.send(b"in ", last=False)
                await socket.send(b"two", 0)
                assert await socket.receive() == (TEXT, b"in two")
            await socket.close(code, "why")
            assert await socket.receive() == (CLOSE, code.to_bytes(2, "big") + b"why")
            assert await reader.read(-1) == b""

    async def scenario() -> None:
        rule = Rule(HOST, injections=(BEARER,))
        async with inside_world(rule, handler=echo) as w:
            for code in (1000, 1001, 1008, 1011, 4999):
                await opened(w, code)

    in_loop(scenario())
