"""A model server that plays a script, in the wire formats of the vendors: for clients and agents under test.

A shell tool on offer: it calls the tool with each of `commands`, one a turn. As many tool results in the
conversation: the final text, which quotes them. No tool: a short text, or JSON of the form that is asked for. Answers
are events, over SSE or (Responses) over a WebSocket, and each is sent by itself. A request without the real key gets
401; what came is recorded.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from model_wires import LISTS, WIRES, responses_events, whole_of
from websocket_frames import CLOSE, PING, PONG, TEXT, WebSocket, accept_for

Json = dict[str, Any]
Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


@dataclass
class Asked:
    """One request. `over` is sse, json or websocket."""

    path: str
    fields: dict[str, list[str]]
    body: Json
    over: str


@dataclass
class ModelServer:
    """`key` is what must come: the header, in lower case, and its value. `keys` are those of hosts with one of their
    own."""

    key: tuple[str, str]
    keys: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    commands: tuple[str, ...] = ("expr 40 + 2",)
    until: str | None = None  # the last command is called again until its result has this
    asked: list[Asked] = field(default_factory=list)
    refused: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)  # paths and headers without the key
    _threads: dict[str, Json] = field(default_factory=dict)
    closed: list[tuple[int, str]] = field(default_factory=list)  # codes and reasons of WebSockets that clients closed

    async def serve(self, reader: Reader, writer: Writer) -> None:
        """One connection."""
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            except asyncio.IncompleteReadError:
                return
            first, *lines = head.rstrip("\r\n").split("\r\n")
            path = first.split(" ")[1].partition("?")[0]
            fields: dict[str, list[str]] = {}
            for line in lines:
                name, _, value = line.partition(":")
                fields.setdefault(name.lower(), []).append(value.strip())
            name, wanted = self.keys.get(fields.get("host", [""])[0], self.key)
            if fields.get(name) != [wanted]:
                self.refused.append((path, fields))
                await self._send_json(writer, {"error": {"message": "the key is not the real one"}}, 401)
                return
            if "upgrade" in fields:
                await self._converse(reader, writer, path, fields)
                return
            body = json.loads(await _body(reader, fields) or b"{}")
            self.asked.append(Asked(path, fields, body, "sse" if body.get("stream") else "json"))
            await self._answer(writer, path, body)

    async def _answer(self, writer: Writer, path: str, body: Json) -> None:
        if path in LISTS:
            await self._send_json(writer, LISTS[path])
            return
        wire = next((wire for end, wire in WIRES.items() if path.endswith(end)), None)
        if wire is None:
            await self._send_json(writer, {"error": {"message": f"nothing at {path}"}}, 404)
            return
        body = self._continued(body)
        events = list(wire.events(body, self.commands, self.until))
        if "thread" in body:  # what the server knows already is not sent again
            events[0]["message"]["id"] = f"msg_{len(self.asked)}"
            self._threads[events[0]["message"]["id"]] = body
        if not (body.get("stream") or wire.streams):
            await self._send_json(writer, whole_of(events))
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for event in events:
            kind = f"event: {event['type']}\n" if wire.named else ""
            await _send_chunk(writer, f"{kind}data: {json.dumps(event)}\n\n".encode())
        if wire.done:
            await _send_chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def _continued(self, body: Json) -> Json:
        """A request that goes on with an answer has only what is new: with all that was before it."""
        before = self._threads.get((body.get("thread") or {}).get("previous_message_id"))
        return body if before is None else {**before, **body, "messages": [*before["messages"], *body["messages"]]}

    async def _send_json(self, writer: Writer, content: Json, status: int = 200) -> None:
        body = json.dumps(content).encode()
        head = f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    async def _converse(self, reader: Reader, writer: Writer, path: str, fields: dict[str, list[str]]) -> None:
        """The Responses API over a WebSocket: each frame a request, which may go on from the last one."""
        accept = accept_for(fields["sec-websocket-key"][0])
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        socket, history = WebSocket(reader, writer, client=False), []
        while True:
            kind, data = await socket.receive()
            if kind == CLOSE:
                self.closed.append((int.from_bytes(data[:2], "big"), data[2:].decode()))
                await socket.send(data[:2], CLOSE)
                return
            if kind == PING:
                await socket.send(data, PONG)
                continue
            body = json.loads(data)
            self.asked.append(Asked(path, fields, body, "websocket"))
            history = [*(history if body.get("previous_response_id") else []), *body.get("input", [])]
            for event in responses_events({**body, "input": history}, self.commands, self.until):
                await socket.send(json.dumps(event).encode(), TEXT)


async def _send_chunk(writer: Writer, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
    await writer.drain()


async def _body(reader: Reader, fields: dict[str, list[str]]) -> bytes:
    if "content-length" in fields:
        return await reader.readexactly(int(fields["content-length"][0]))
    body = b""
    if "transfer-encoding" in fields:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    return body
