"""What passes between an editor and an agent, message by message. The agent is the guest's, and hostile.

An editor does for its agent what a program of the user's could: it reads and writes files, starts programs in
terminals, and connects to servers. All of that would happen on this host. So the agent is told that its editor can do
none of it, and a request for it is answered here. It has the files of the project in its own machine, and programs,
too. Of its requests, one passes: whether the user permits a tool.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.acp.places import Outside, Places

METHOD_NOT_FOUND, INVALID_PARAMS = -32601, -32602
PASSED_REQUESTS = frozenset({"session/request_permission"})  # of the agent; all others are answered here
PASSED_NOTIFICATIONS = frozenset({"session/update", "$/cancel_request"})
CAPABILITIES = {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}
# The fields of the protocol that hold a path of a file system, or a URI. What is in OPAQUE is an agent's own.
PATHS, DIRECTORIES, URI, LOCATIONS = ("path", "cwd"), "additionalDirectories", "uri", "locations"
OPAQUE = frozenset({"rawInput", "rawOutput"})
EXTRAS = "_meta"  # an agreement between one editor and one agent, such as a command for a terminal of the host
SERVERS = "mcpServers"  # commands of this host, with its credentials in their environment


class Refused(Exception):
    """A message of a side that does not keep to the protocol; it is dropped, and the text says why."""


@dataclass
class Passed:
    """What a message has become: lines for either side, and words for the log of the editor."""

    to_agent: list[bytes] = field(default_factory=list)
    to_editor: list[bytes] = field(default_factory=list)
    said: str | None = None


class Conversation:
    """One connection. Every message that passes is written anew, so that both sides read what was judged here."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._asked_agent: dict[str, str] = {}  # ids of the editor's requests that have no answer yet -> methods
        self._asked_editor: set[str] = set()

    def from_editor(self, line: bytes) -> Passed:
        """A line of the editor's. Raises Refused."""
        return _bounded(self._of_editor, line)

    def from_agent(self, line: bytes) -> Passed:
        """A line of the agent's. Raises Refused."""
        return _bounded(self._of_agent, line)

    def _of_editor(self, line: bytes) -> Passed:
        message = _read(line)
        method = message.get("method")
        if method is None:
            return self._answer_of_editor(message)
        try:
            params, said = self._params_for_agent(method, message.get("params"))
        except Outside as error:
            text = f"{error} is in no live mount of this sandbox"
            if "id" not in message:
                raise Refused(text) from None
            return Passed(to_editor=[_error(message["id"], INVALID_PARAMS, text)], said=text)
        if "id" in message:
            self._asked_agent[_key(message["id"])] = method
        return Passed(to_agent=[_write(_request(message, params))], said=said)

    def _of_agent(self, line: bytes) -> Passed:
        message = _read(line)
        method = message.get("method")
        if method is None:
            return self._answer_of_agent(message)
        is_request = "id" in message
        if method not in (PASSED_REQUESTS if is_request else PASSED_NOTIFICATIONS):
            if not is_request:
                raise Refused(f"the agent's {method!r} stays in the sandbox")
            text = f"{method}: the editor is outside of the sandbox; use the files and programs of this machine"
            return Passed(
                to_agent=[_error(message["id"], METHOD_NOT_FOUND, text)],
                said=f"the agent's request {method!r} was refused: it would be done on this host",
            )
        if is_request:
            self._asked_editor.add(_key(message["id"]))
        return Passed(to_editor=[_write(_request(message, self._to_host(message.get("params"))))])

    # answers

    def _answer_of_editor(self, message: Mapping[str, Any]) -> Passed:
        key = _key(message["id"])
        if key not in self._asked_editor:
            raise Refused("the editor answers what nobody has asked")
        self._asked_editor.discard(key)
        return Passed(to_agent=[_write(_answer(message, message.get("result")))])

    def _answer_of_agent(self, message: Mapping[str, Any]) -> Passed:
        method = self._asked_agent.pop(_key(message["id"]), None)
        if method is None:
            raise Refused("the agent answers what nobody has asked")
        result = self._to_host(message.get("result"))
        if method == "initialize" and isinstance(result, dict) and "authMethods" in result:
            result["authMethods"] = list(_ways_to_sign_in(result["authMethods"]))
        return Passed(to_editor=[_write(_answer(message, result))])

    # paths

    def _params_for_agent(self, method: str, params: Any) -> tuple[Any, str | None]:
        said = None
        if isinstance(params, Mapping):
            params = dict(params)
            if method == "initialize":
                params["clientCapabilities"] = CAPABILITIES
                params.pop(EXTRAS, None)
            if params.get(SERVERS):
                said = "the editor's MCP servers are left out: their commands, files and credentials are this host's"
            if SERVERS in params:
                params[SERVERS] = []
        return self._to_guest(params), said

    def _to_guest(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._to_guest(each) for each in value]
        if not isinstance(value, Mapping):
            return value
        found: dict[str, Any] = {}
        for key, inner in value.items():
            if key == "cwd" and isinstance(inner, str):
                found[key] = self._places.to_guest(inner)
            elif key == DIRECTORIES and isinstance(inner, list):
                found[key] = [self._places.to_guest(each) if isinstance(each, str) else each for each in inner]
            elif key == URI and isinstance(inner, str):
                found[key] = self._places.uri_to_guest(inner)
            else:
                found[key] = inner if key in OPAQUE else self._to_guest(inner)
        return found

    def _to_host(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._to_host(each) for each in value]
        if not isinstance(value, Mapping):
            return value
        found: dict[str, Any] = {}
        for key, inner in value.items():
            if key == EXTRAS:
                continue
            if key == LOCATIONS and isinstance(inner, list):
                inner = [each for each in inner if self._is_of_host(each)]
            if key in PATHS and isinstance(inner, str):
                found[key] = self._host_path(inner)
            elif key == DIRECTORIES and isinstance(inner, list):
                found[key] = [self._host_path(each) if isinstance(each, str) else each for each in inner]
            elif key == URI and isinstance(inner, str):
                found[key] = self._places.uri_to_host(inner)
            else:
                found[key] = inner if key in OPAQUE else self._to_host(inner)
        return found

    def _host_path(self, path: str) -> str:
        found = self._places.to_host(path)
        return self._places.stand_in(path) if found is None else found

    def _is_of_host(self, location: Any) -> bool:
        """Whether an editor could show it: it would open the host's file of that name otherwise."""
        path = location.get("path") if isinstance(location, Mapping) else None
        return isinstance(path, str) and self._places.to_host(path) is not None


def _bounded(judge: Callable[[bytes], Passed], line: bytes) -> Passed:
    """`judge`, for a line that may hold more levels or larger numbers than can be written again."""
    try:
        return judge(line)
    except (RecursionError, ValueError):
        raise Refused("a line is no message that can be passed on") from None


def _ways_to_sign_in(methods: Any) -> Iterator[dict[str, str]]:
    """Those that the agent goes by itself. Others have the editor run a command of the agent's on this host."""
    for method in methods if isinstance(methods, list) else ():
        if isinstance(method, Mapping) and method.get("type", "agent") == "agent":
            yield {key: method[key] for key in ("id", "name", "description") if isinstance(method.get(key), str)}


def _read(line: bytes) -> dict[str, Any]:
    """One message: a request, a notification or an answer, and nothing that could be read as two of them."""
    try:
        message = json.loads(line.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refused("a line is no JSON") from None
    if not isinstance(message, dict):
        raise Refused("a line is no message")
    if "method" in message:
        if not isinstance(message["method"], str) or "result" in message or "error" in message:
            raise Refused("a message is neither a request nor an answer")
    elif "id" not in message or ("result" in message) == ("error" in message):
        raise Refused("a message is neither a request nor an answer")
    if "id" in message:
        _key(message["id"])
    return message


def _key(number: Any) -> str:
    if isinstance(number, bool) or not isinstance(number, int | str):
        raise Refused("a message has an id that is neither a number nor a text")
    return json.dumps(number)


def _no_number(text: str) -> Any:
    raise ValueError(text)


def _request(message: Mapping[str, Any], params: Any) -> dict[str, Any]:
    kept = {"jsonrpc": "2.0", **{key: message[key] for key in ("id", "method") if key in message}}
    return kept if params is None else {**kept, "params": params}


def _answer(message: Mapping[str, Any], result: Any) -> dict[str, Any]:
    kept: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
    if "error" not in message:
        return {**kept, "result": result}
    error = message["error"] if isinstance(message["error"], Mapping) else {}
    code, text = error.get("code"), error.get("message")
    told: dict[str, Any] = {"code": code if isinstance(code, int) else -32603, "message": str(text)}
    data = error.get("data")
    details = data.get("details") if isinstance(data, Mapping) else data
    return {**kept, "error": {**told, "data": {"details": details}} if isinstance(details, str) else told}


def _error(number: Any, code: int, text: str) -> bytes:
    return _write({"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": text}})


def _write(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, allow_nan=False).encode() + b"\n"
