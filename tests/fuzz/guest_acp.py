"""What an agent in a guest says to an editor of this host, by the Agent Client Protocol."""

from __future__ import annotations

import json
import re
from typing import Any

from engine.acp.messages import Conversation, Refused
from engine.acp.places import Place, Places
from engine.acp.session import Messages

PLACES = Places("shop", [Place("/home/user/shop", "/w"), Place("/home/user/shop/docs", "/w/deep/docs")])
_PASSED = {"session/request_permission", "session/update", "$/cancel_request"}


def acp(data: bytes) -> None:
    """Of what an agent says, an editor hears what it was asked, what it may ask, and paths of the mounts alone."""
    lines = [list[bytes](), list[bytes]()]
    for found, size in zip(lines, (len(data) or 1, 5), strict=True):
        cutter = Messages("the agent's")
        for at in range(0, len(data), size):
            found += cutter.feed(data[at : at + size])
    assert lines[0] == lines[1] == [line for line in data.split(b"\n")[:-1] if line.strip()]
    one = Conversation(PLACES)
    asking = {1: "initialize", "two": "session/load"}
    for number, method in asking.items():
        one.from_editor(json.dumps({"id": number, "method": method, "params": {}}).encode())
    answered: list[object] = []
    for line in lines[0]:
        try:
            passed = one.from_agent(line)
        except Refused:
            continue
        for each in passed.to_editor:
            assert each.endswith(b"\n") and each.count(b"\n") == 1
            message = json.loads(each)
            if "method" in message:
                assert message["method"] in _PASSED and message.keys() <= {"jsonrpc", "id", "method", "params"}
            else:
                assert message["id"] in asking and message["id"] not in answered, "an answer that nobody has asked for"
                answered.append(message["id"])
            _check_paths(message.get("params"))
            _check_paths(message.get("result"))
        assert all(each.count(b"\n") == 1 for each in passed.to_agent)


def _check_paths(value: Any) -> None:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key in ("rawInput", "rawOutput"):
            continue
        assert key != "_meta"
        for path in [inner] if key in ("path", "cwd", "additionalDirectories") else ():
            for each in path if isinstance(path, list) else [path]:
                assert not isinstance(each, str) or each.startswith(("/home/user/shop", "/shop.sandbox/")), each
                assert not isinstance(each, str) or "/../" not in f"{each}/"
        if key == "uri" and isinstance(inner, str) and inner.lower().strip().startswith("file:"):
            assert re.match(r"file:(?!/)|file:///home/user/shop|file:///shop\.sandbox/", inner), inner
        _check_paths(inner)


ACP_SEEDS = (
    b'{"id": 1, "result": {"authMethods": [{"id": "a", "type": "terminal"}, {"id": "b", "name": "B"}], "_meta": {}}}\n',
    b'{"id": 9, "method": "fs/read_text_file", "params": {"path": "/etc/passwd"}}\n{"id": "two", "error": {}}\n',
    b'{"method": "session/update", "params": {"path": "/w/a", "locations": [{"path": "/w/deep"}, {"path": "/"}]}}\n',
    b'{"id": 3, "method": "session/request_permission", "params": {"uri": "file:///w/../etc/x#L1", "cwd": "a/.."}}\n',
    b'{"method": "session/update", "params": {"uri": "FILE://localhost/etc", "rawInput": {"path": "/"}, "_meta": 1}}\n',
)
