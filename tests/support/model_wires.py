"""What the server of model_server.py says, in the wire formats of the vendors: the events of one turn of its script."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]
SHELL_TOOLS = ("Bash", "bash", "exec_command", "shell", "run_shell_command", "exec", "run_commands", "Execute")
FINAL = "The command said: "
SHORT = "A short answer."
MOST_CALLS = 80


class ShellTool(NamedTuple):
    """A tool that runs commands: its name, its argument, and the group that it is in; `further` are what else it must
    be told. One without an argument takes a program in JavaScript, as Codex offers it."""

    name: str
    argument: str | None
    namespace: str | None = None
    further: Mapping[str, Any] = {}


def shell_tool(body: Json) -> ShellTool | None:
    for namespace, tool in _tools(body):
        about = tool.get("function", tool)
        schema = about.get("input_schema") or about.get("parameters") or about.get("parametersJsonSchema") or {}
        if about.get("name") not in SHELL_TOOLS:
            continue
        if tool.get("type") == "custom":
            return ShellTool(about["name"], None, namespace)
        properties = schema.get("properties") or {}
        for argument in ("command", "cmd", "commands"):
            if argument in properties:
                names = set(schema.get("required") or ()) - {argument}
                further = {name: sample(properties[name]) for name in sorted(names)}
                return ShellTool(about["name"], argument, namespace, further)
    return None


def sample(schema: Json) -> Any:
    """A value of this form, as JSON Schema says it."""
    kind = schema.get("type", "object")
    if "anyOf" in schema or isinstance(kind, list):
        return None  # of several kinds, one of which is null
    kind = kind.lower()
    if schema.get("enum"):
        return schema["enum"][0]
    if kind == "object":
        return {name: sample(inner) for name, inner in (schema.get("properties") or {}).items()}
    return {"integer": 1, "number": 1, "boolean": False, "array": []}.get(kind, "as asked")


def _tools(body: Json) -> Iterator[tuple[str | None, Json]]:
    items = body.get("input")
    further = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    offered = list(body.get("tools") or [])
    for item in further:
        offered += (item.get("tools") or []) if item.get("type") == "additional_tools" else []
    for tool in offered:
        if tool.get("type") == "namespace":
            yield from ((tool["name"], inner) for inner in tool.get("tools") or [])
        elif "functionDeclarations" in tool:
            yield from ((None, inner) for inner in tool["functionDeclarations"])
        else:
            yield None, tool


def next_call(
    body: Json, results: list[Any], commands: Sequence[str], until: str | None
) -> tuple[ShellTool, str] | None:
    """The tool and the command of this turn; None when all have been called, or there is no tool.

    With `until` the last command is called again, MOST_CALLS in all, until its result has this text.
    """
    left = list(commands[len(results) :])
    if not left and until is not None and until not in json.dumps(results[-1]) and len(results) < MOST_CALLS:
        left = [f": {len(results)}; {commands[-1]}"]  # some agents end what looks like a loop
    tool = shell_tool(body) if left else None
    return None if tool is None else (tool, left[0])


def arguments_of(tool: ShellTool, command: str) -> Json:
    return {str(tool.argument): [command] if tool.argument == "commands" else command, **tool.further}


def short_text(schema: Json | None) -> str:
    return SHORT if schema is None else json.dumps(sample(schema))


def final_text(results: list[Any]) -> str:
    return FINAL + "; ".join(each if isinstance(each, str) else json.dumps(each) for each in results)


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


def messages_events(body: Json, commands: Sequence[str], until: str | None = None) -> Iterator[Json]:
    """Anthropic's Messages API."""
    blocks = [
        block
        for message in body.get("messages", [])
        if isinstance(message.get("content"), list)
        for block in message["content"]
    ]
    results = [block["content"] for block in blocks if block.get("type") == "tool_result"]
    call = next_call(body, results, commands, until)
    schema = ((body.get("output_config") or {}).get("format") or {}).get("schema")
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
    if call is not None:
        block = {"type": "tool_use", "id": f"toolu_{len(results)}", "name": call[0].name, "input": {}}
        pieces = [{"type": "input_json_delta", "partial_json": json.dumps(arguments_of(*call))}]
    else:
        block, text = {"type": "text", "text": ""}, final_text(results) if results else short_text(schema)
        pieces = [{"type": "text_delta", "text": word} for word in words(text)]
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    for piece in pieces:
        yield {"type": "content_block_delta", "index": 0, "delta": piece}
    yield {"type": "content_block_stop", "index": 0}
    stop = "end_turn" if call is None else "tool_use"
    yield {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 9}}
    yield {"type": "message_stop"}


def responses_events(body: Json, commands: Sequence[str], until: str | None = None) -> Iterator[Json]:
    """OpenAI's Responses API."""
    items = body.get("input")
    items = items if isinstance(items, list) else []
    results = [item["output"] for item in items if str(item.get("type", "")).endswith("_call_output")]
    call = next_call(body, results, commands, until)
    schema = ((body.get("text") or {}).get("format") or {}).get("schema")
    answer: Json = {"id": f"resp_{len(items)}", "object": "response", "status": "in_progress", "output": []}
    yield {"type": "response.created", "response": answer}
    usage = {"input_tokens": 12, "output_tokens": 9, "total_tokens": 21}
    if body.get("generate") is False:  # to warm up
        yield {"type": "response.completed", "response": {**answer, "status": "completed", "usage": usage}}
        return
    if call is not None:
        item, arguments = _call(*call, f"call_{len(results)}")
        yield {"type": "response.output_item.added", "output_index": 0, "item": item}
        if call[0].argument is not None:
            item = {**item, "arguments": arguments, "status": "completed"}
            yield {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": arguments}
            yield {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": arguments}
    else:
        text = final_text(results) if results else short_text(schema)
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


def _call(tool: ShellTool, command: str, id: str) -> tuple[Json, str]:
    group = {"namespace": tool.namespace} if tool.namespace else {}
    common = {"call_id": id, "name": tool.name, **group}
    if tool.argument is None:
        program = f"const r = await tools.exec_command({{cmd: {json.dumps(command)}}});\ntext(r);"
        return {"type": "custom_tool_call", "id": "ctc_1", **common, "input": program}, program
    return {"type": "function_call", "id": "fc_1", **common, "arguments": ""}, json.dumps(arguments_of(tool, command))


def chat_events(body: Json, commands: Sequence[str], until: str | None = None) -> Iterator[Json]:
    """Chat completions, as many vendors speak them."""
    results = [message["content"] for message in body.get("messages", []) if message.get("role") == "tool"]
    found = next_call(body, results, commands, until)
    schema = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")
    usage = {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21}

    def chunk(delta: Json, finish: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        about = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body.get("model")}
        return {"type": "chunk", **about, "choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    if found is not None:
        call = {"name": found[0].name, "arguments": json.dumps(arguments_of(*found))}
        yield chunk({"tool_calls": [{"index": 0, "id": f"call_{len(results)}", "type": "function", "function": call}]})
    else:
        for word in words(final_text(results) if results else short_text(schema)):
            yield chunk({"content": word})
    yield {**chunk({}, "stop" if found is None else "tool_calls"), "usage": usage}


def gemini_events(body: Json, commands: Sequence[str], until: str | None = None) -> Iterator[Json]:
    """Google's Gemini API."""
    parts = [part for content in body.get("contents") or [] for part in content.get("parts") or []]
    results = [part["functionResponse"].get("response") for part in parts if "functionResponse" in part]
    found = next_call(body, results, commands, until)
    settings = body.get("generationConfig") or {}
    schema = settings.get("responseJsonSchema") or settings.get("responseSchema")
    if found is not None:
        pieces = [{"functionCall": {"name": found[0].name, "args": arguments_of(*found)}}]
    else:
        pieces = [{"text": word} for word in words(final_text(results) if results else short_text(schema))]
    for part in pieces:
        candidate = {"content": {"role": "model", "parts": [part]}, "index": 0}
        last = {"finishReason": "STOP"} if part is pieces[-1] else {}
        usage = {"promptTokenCount": 12, "candidatesTokenCount": 9, "totalTokenCount": 21}
        yield {"type": "chunk", "candidates": [{**candidate, **last}], "usageMetadata": usage}


class Wire(NamedTuple):
    """`named` events have their type before them, after the last one comes `done`; a path `streams` by itself where the
    request does not say so."""

    events: Callable[[Json, Sequence[str], str | None], Iterator[Json]]
    named: bool = False
    done: bool = False
    streams: bool = False


WIRES = {
    "/v1/messages": Wire(messages_events, named=True),
    "/responses": Wire(responses_events, named=True),
    "/chat/completions": Wire(chat_events, done=True),
    ":streamGenerateContent": Wire(gemini_events, streams=True),
    ":generateContent": Wire(gemini_events),
}


def whole_of(events: list[Json]) -> Json:
    """The answer to a request that wants it in one piece: of the kind that its events are of."""
    first, last = events[0], events[-1]
    if "candidates" in last:
        parts = [part for event in events for part in event["candidates"][0]["content"]["parts"]]
        content = {"role": "model", "parts": parts}
        return {**last, "candidates": [{**last["candidates"][0], "content": content}]}
    if "choices" in last:
        message: Json = {"role": "assistant", "content": text_of(events)}
        for event in events:
            if calls := event["choices"][0]["delta"].get("tool_calls"):
                message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "finish_reason": last["choices"][0]["finish_reason"]}
        return {**last, "object": "chat.completion", "choices": [choice]}
    if first["type"] == "message_start":
        content = [{"type": "text", "text": text_of(events)}]
        return {**first["message"], "content": content, "stop_reason": "end_turn"}
    return dict(last["response"])


def _model(name: str, vendor: str) -> Json:
    limits = {"max_context_window_tokens": 200000, "max_output_tokens": 32000, "max_prompt_tokens": 160000}
    supports = {"streaming": True, "tool_calls": True, "parallel_tool_calls": True, "vision": False}
    about = {"type": "chat", "family": name, "object": "model_capabilities", "tokenizer": "o200k_base"}
    return {
        **{"id": name, "object": "model", "name": name, "vendor": vendor, "version": name, "preview": False},
        **{"model_picker_enabled": True, "policy": {"state": "enabled", "terms": ""}},
        **{"supported_endpoints": ["/chat/completions"]},
        "capabilities": {**about, "limits": limits, "supports": supports},
    }


COPILOT = "individual.githubcopilot.com"
# What Copilot asks for before the models: the plan, which says where they are, and which there are.
LISTS: dict[str, Json] = {
    "/copilot_internal/user": {
        **{"login": "somebody", "copilot_plan": "individual", "chat_enabled": True, "access_type_sku": "individual"},
        **{"quota_snapshots": {}, "organization_login_list": [], "organization_list": []},
        "endpoints": {"api": f"https://api.{COPILOT}", "telemetry": f"https://telemetry.{COPILOT}"},
    },
    "/models": {"object": "list", "data": [_model("gpt-5-mini", "OpenAI"), _model("claude-sonnet-4.5", "Anthropic")]},
}
