"""A model server that plays a script, in the wire formats of the vendors: for clients and agents under test.

No tool result in the conversation and a shell tool on offer: it calls the tool with `command`. A tool result: the final
text, which quotes the result. No tool: a short text. Answers are events, over SSE or (Responses) over a WebSocket, and
each is sent by itself. A request without the real key gets 401; what came is recorded.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from websocket_frames import CLOSE, PING, PONG, TEXT, WebSocket, accept_for

Json = dict[str, Any]
Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
SHELL_TOOLS = ("Bash", "bash", "exec_command", "shell", "run_shell_command", "exec")
FINAL = "The command said: "
SHORT = "A short answer."


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
    command: str = "expr 40 + 2"
    asked: list[Asked] = field(default_factory=list)
    refused: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)  # paths and headers without the key
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
        wires = {
            "/v1/messages": (messages_events, True),
            "/v1/responses": (responses_events, True),
            "/v1/chat/completions": (chat_events, False),
        }
        if path not in wires:
            await self._send_json(writer, {"error": {"message": f"nothing at {path}"}}, 404)
            return
        make, named = wires[path]
        events = list(make(body, self.command))
        if not body.get("stream"):
            await self._send_json(writer, {"text": text_of(events)})
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for event in events:
            kind = f"event: {event['type']}\n" if named else ""
            await _send_chunk(writer, f"{kind}data: {json.dumps(event)}\n\n".encode())
        if not named:
            await _send_chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

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
            for event in responses_events({**body, "input": history}, self.command):
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


# The script


class ShellTool(NamedTuple):
    """A tool that runs commands: its name, its argument, and the group that it is in. One without an argument takes a
    program in JavaScript, as Codex offers it."""

    name: str
    argument: str | None
    namespace: str | None = None


def shell_tool(body: Json) -> ShellTool | None:
    for namespace, tool in _tools(body):
        about = tool.get("function", tool)
        schema = about.get("input_schema") or about.get("parameters") or {}
        if about.get("name") not in SHELL_TOOLS:
            continue
        if tool.get("type") == "custom":
            return ShellTool(about["name"], None, namespace)
        for argument in ("command", "cmd"):
            if argument in (schema.get("properties") or {}):
                return ShellTool(about["name"], argument, namespace)
    return None


def _tools(body: Json) -> Iterator[tuple[str | None, Json]]:
    items = body.get("input")
    further = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    offered = list(body.get("tools") or [])
    for item in further:
        offered += (item.get("tools") or []) if item.get("type") == "additional_tools" else []
    for tool in offered:
        if tool.get("type") == "namespace":
            yield from ((tool["name"], inner) for inner in tool.get("tools") or [])
        else:
            yield None, tool


def final_text(results: list[Any]) -> str:
    said = results[-1] if isinstance(results[-1], str) else json.dumps(results[-1])
    return FINAL + said


def words(text: str) -> Iterator[str]:
    """As models stream it."""
    for number, word in enumerate(text.split(" ")):
        yield word if number == 0 else f" {word}"


def text_of(events: list[Json]) -> str:
    """The text that a client puts together, whatever the format."""
    found = []
    for event in events:
        delta = event.get("delta")
        if isinstance(delta, str) and event["type"] == "response.output_text.delta":
            found.append(delta)
        elif isinstance(delta, dict):
            found.append(delta.get("text", ""))
        for choice in event.get("choices", []):
            found.append(choice["delta"].get("content") or "")
    return "".join(found)


def messages_events(body: Json, command: str) -> Iterator[Json]:
    """Anthropic's Messages API."""
    blocks = [
        block
        for message in body.get("messages", [])
        if isinstance(message.get("content"), list)
        for block in message["content"]
    ]
    results = [block["content"] for block in blocks if block.get("type") == "tool_result"]
    tool = None if results else shell_tool(body)
    usage = {"input_tokens": 12, "output_tokens": 1}
    yield {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body.get("model"),
            "content": [],
            "stop_reason": None,
            "usage": usage,
        },
    }
    if tool is not None:
        block = {"type": "tool_use", "id": "toolu_1", "name": tool.name, "input": {}}
        pieces = [{"type": "input_json_delta", "partial_json": json.dumps({tool.argument: command})}]
    else:
        block = {"type": "text", "text": ""}
        pieces = [{"type": "text_delta", "text": word} for word in words(final_text(results) if results else SHORT)]
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    for piece in pieces:
        yield {"type": "content_block_delta", "index": 0, "delta": piece}
    yield {"type": "content_block_stop", "index": 0}
    stop = "end_turn" if tool is None else "tool_use"
    yield {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 9}}
    yield {"type": "message_stop"}


def responses_events(body: Json, command: str) -> Iterator[Json]:
    """OpenAI's Responses API."""
    items = body.get("input")
    items = items if isinstance(items, list) else []
    results = [item["output"] for item in items if str(item.get("type", "")).endswith("_call_output")]
    tool = None if results else shell_tool(body)
    answer: Json = {"id": f"resp_{len(items)}", "object": "response", "status": "in_progress", "output": []}
    yield {"type": "response.created", "response": answer}
    usage = {"input_tokens": 12, "output_tokens": 9, "total_tokens": 21}
    if body.get("generate") is False:  # to warm up
        yield {"type": "response.completed", "response": {**answer, "status": "completed", "usage": usage}}
        return
    if tool is not None:
        item, arguments = _call(tool, command)
        yield {"type": "response.output_item.added", "output_index": 0, "item": item}
        if tool.argument is not None:
            item = {**item, "arguments": arguments, "status": "completed"}
            yield {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": arguments}
            yield {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": arguments}
    else:
        text = final_text(results) if results else SHORT
        item = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
        yield {"type": "response.output_item.added", "output_index": 0, "item": item}
        for word in words(text):
            yield {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": word}
        item = {**item, "status": "completed", "content": [{"type": "output_text", "text": text}]}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {
        "type": "response.completed",
        "response": {**answer, "status": "completed", "output": [item], "usage": usage},
    }


def _call(tool: ShellTool, command: str) -> tuple[Json, str]:
    group = {"namespace": tool.namespace} if tool.namespace else {}
    common = {"call_id": "call_1", "name": tool.name, **group}
    if tool.argument is None:
        program = f"const r = await tools.exec_command({{cmd: {json.dumps(command)}}});\ntext(r);"
        return {"type": "custom_tool_call", "id": "ctc_1", **common, "input": program}, program
    return {"type": "function_call", "id": "fc_1", **common, "arguments": ""}, json.dumps({tool.argument: command})


def chat_events(body: Json, command: str) -> Iterator[Json]:
    """Chat completions, as many vendors speak them."""
    results = [message["content"] for message in body.get("messages", []) if message.get("role") == "tool"]
    tool = None if results else shell_tool(body)

    def chunk(delta: Json, finish: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"type": "chunk", "id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    if tool is not None:
        call = {"name": tool.name, "arguments": json.dumps({tool.argument: command})}
        yield chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": call}]})
    else:
        for word in words(final_text(results) if results else SHORT):
            yield chunk({"content": word})
    yield chunk({}, "stop" if tool is None else "tool_calls")
