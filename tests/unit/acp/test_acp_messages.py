"""What of the Agent Client Protocol passes between an editor and a hostile agent, with whose paths."""

from __future__ import annotations

import json
import posixpath
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.acp.messages import CAPABILITIES, Conversation, Refused
from engine.acp.places import Outside, Place, Places

MOUNTS = [Place("/home/u/shop", "/workspace"), Place("/home/u/shop/vendor/lib", "/lib/ours"), Place("/data", "/data")]
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda text: text not in (".", "..")
)
PARTS = st.lists(NAMES, max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def places() -> Places:
    return Places("shop", MOUNTS)


@pytest.fixture
def talk(places: Places) -> Conversation:
    return Conversation(places)


def line(method: str | None = None, **fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **({"method": method} if method else {}), **fields}).encode()


def only(lines: list[bytes]) -> Any:
    (one,) = lines
    assert one.endswith(b"\n") and b"\n" not in one[:-1]
    return json.loads(one)


def asked(talk: Conversation, method: str, params: Any, number: int = 1) -> Any:
    """The params of the editor's request, as the agent gets them."""
    return only(talk.from_editor(line(method, id=number, params=params)).to_agent)["params"]


def answered(talk: Conversation, result: Any, number: int = 1) -> Any:
    return only(talk.from_agent(line(id=number, result=result)).to_editor)["result"]


def updated(talk: Conversation, update: Any) -> Any:
    """A session's update of the agent, as the editor gets it."""
    told = only(talk.from_agent(line("session/update", params={"sessionId": "s", "update": update})).to_editor)
    assert told["method"] == "session/update" and "id" not in told
    return told["params"]["update"]


# paths


@pytest.mark.parametrize(
    ("host", "guest"),
    [
        ("/home/u/shop", "/workspace"),
        ("/home/u/shop/src/a b.py", "/workspace/src/a b.py"),
        ("/home/u/shop/vendor/lib/x", "/lib/ours/x"),
        ("/home/u/shop/vendor", "/workspace/vendor"),
        ("/data/x", "/data/x"),
    ],
)
def test_a_path_in_a_mount_has_a_name_on_both_sides(places: Places, host: str, guest: str) -> None:
    assert places.to_guest(host) == guest
    assert places.to_host(guest) == host


@pytest.mark.parametrize("path", ["/home/u/shopping", "/home/u/shop/../other", "/etc/passwd", "src", "", "/\0", "//x"])
def test_a_path_outside_has_none(places: Places, path: str) -> None:
    with pytest.raises(Outside):
        places.to_guest(path)


@pytest.mark.parametrize("path", ["/workspace/../etc/passwd", "/workspaces", "/etc/passwd", "workspace", "/", "\0"])
def test_a_path_of_the_guest_alone_is_never_one_of_the_host(places: Places, path: str) -> None:
    assert places.to_host(path) is None
    assert places.stand_in(path).startswith("/shop.sandbox/")


@given(PARTS)
def test_there_and_back(parts: list[str]) -> None:
    places = Places("shop", MOUNTS)
    path = posixpath.join("/home/u/shop", *parts)
    assert places.to_host(places.to_guest(path)) == path


@given(st.lists(NAMES | st.sampled_from(["..", ".", ""]), max_size=8))
def test_no_words_of_the_guest_lead_out_of_the_mounts(parts: list[str]) -> None:
    found = Places("shop", MOUNTS).to_host("/workspace/" + "/".join(parts))
    assert found is None or any(Path(found).is_relative_to(mount.host) for mount in MOUNTS)
    assert found is None or ".." not in found.split("/")


def test_an_editor_that_came_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert Places("x", [Place(str(tmp_path / "real"), "/w")]).to_guest(f"{tmp_path}/link/a") == "/w/a"


@pytest.mark.parametrize(
    ("guest", "host"),
    [
        ("file:///workspace/a%20b.py#L10:20", "file:///home/u/shop/a%20b.py#L10:20"),
        ("file://localhost/workspace/a?symbol=f", "file:///home/u/shop/a?symbol=f"),
        ("file:///etc/passwd", "file:///shop.sandbox/etc/passwd"),
        ("FILE:///workspace/%2e%2e/etc/passwd", "file:///shop.sandbox/etc/passwd"),
        (" file:///etc/passwd", "file:///shop.sandbox/"),
        ("fi\nle:/etc/passwd", "file:///shop.sandbox/"),
        ("file://elsewhere/workspace/a", "file:///shop.sandbox/"),
        ("file:workspace/a", "file:///shop.sandbox/workspace/a"),
        ("https://example.com/workspace", "https://example.com/workspace"),
    ],
)
def test_uris_of_the_guest(places: Places, guest: str, host: str) -> None:
    found = places.uri_to_host(guest)
    assert found == host or found.startswith(host.replace("file:///shop.sandbox/", "file:///shop.sandbox/", 1))
    assert not found.startswith("file:///etc")


def test_uris_of_the_editor(places: Places) -> None:
    assert places.uri_to_guest("file:///home/u/shop/a%20b#L1") == "file:///workspace/a%20b#L1"
    assert places.uri_to_guest("file:///etc/hosts") == "file:///etc/hosts"
    assert places.uri_to_guest("zed:///agent/thread/1") == "zed:///agent/thread/1"


# messages


def test_the_agent_hears_of_no_abilities_of_its_editor(talk: Conversation) -> None:
    abilities = {
        "fs": {"readTextFile": True, "writeTextFile": True},
        "terminal": True,
        "_meta": {"terminal-auth": True},
    }
    params = {"protocolVersion": 1, "clientCapabilities": abilities, "clientInfo": {"name": "z"}, "_meta": {"x": 1}}
    assert asked(talk, "initialize", params) == {
        "protocolVersion": 1,
        "clientCapabilities": CAPABILITIES,
        "clientInfo": {"name": "z"},
    }


def test_no_command_for_a_terminal_of_the_host_comes_back(talk: Conversation) -> None:
    asked(talk, "initialize", {"protocolVersion": 1})
    run = {"command": "/bin/sh", "args": ["-c", "id"]}
    methods = [
        {"id": "a", "name": "A", "description": "d", "_meta": {"terminal-auth": run}},
        {"id": "b", "name": "B", "type": "agent", "link": "x"},
        {"id": "c", "name": "C", "type": "terminal", "args": ["login"]},
        {"id": "d", "name": "D", "type": "env_var", "vars": [{"name": "HOME"}]},
        "e",
    ]
    result = answered(talk, {"protocolVersion": 1, "authMethods": methods, "_meta": {"run": run}})
    assert result == {
        "protocolVersion": 1,
        "authMethods": [{"id": "a", "name": "A", "description": "d"}, {"id": "b", "name": "B"}],
    }


@pytest.mark.parametrize("method", ["session/new", "session/load", "session/resume", "session/fork"])
def test_a_session_is_in_the_guests_directory(talk: Conversation, method: str) -> None:
    servers = [{"name": "db", "command": "/usr/bin/db", "args": [], "env": [{"name": "KEY", "value": "secret"}]}]
    params = {"cwd": "/home/u/shop/src", "mcpServers": servers, "additionalDirectories": ["/data"], "sessionId": "s"}
    passed = talk.from_editor(line(method, id=1, params=params))
    assert only(passed.to_agent)["params"] == {
        "cwd": "/workspace/src",
        "mcpServers": [],
        "additionalDirectories": ["/data"],
        "sessionId": "s",
    }
    assert b"secret" not in passed.to_agent[0] and passed.said and "MCP servers" in passed.said


def test_a_session_elsewhere_is_answered_with_an_error(talk: Conversation) -> None:
    passed = talk.from_editor(line("session/new", id=7, params={"cwd": "/home/u/other", "mcpServers": []}))
    error = only(passed.to_editor)
    assert error["id"] == 7 and error["error"]["code"] == -32602 and "/home/u/other" in error["error"]["message"]
    assert passed.to_agent == []


def test_sessions_are_listed_with_paths_of_the_host(talk: Conversation) -> None:
    asked(talk, "session/list", {"cwd": "/home/u/shop"})
    listed = {"sessions": [{"sessionId": "s", "cwd": "/workspace"}, {"sessionId": "t", "cwd": "/root"}]}
    assert [each["cwd"] for each in answered(talk, listed)["sessions"]] == ["/home/u/shop", "/shop.sandbox/root"]


def test_a_prompt_names_files_of_the_guest(talk: Conversation) -> None:
    prompt = [
        {"type": "text", "text": "see /home/u/shop/a"},
        {"type": "resource_link", "name": "a", "uri": "file:///home/u/shop/a"},
        {"type": "resource", "resource": {"uri": "file:///home/u/shop/b", "text": "x"}},
    ]
    got = asked(talk, "session/prompt", {"sessionId": "s", "prompt": prompt})["prompt"]
    assert got[0] == prompt[0]
    assert got[1]["uri"] == "file:///workspace/a"
    assert got[2]["resource"] == {"uri": "file:///workspace/b", "text": "x"}


def test_an_update_names_files_of_the_host(talk: Conversation) -> None:
    update = {
        "sessionUpdate": "tool_call",
        "toolCallId": "1",
        "title": "Edit /workspace/a",
        "locations": [{"path": "/workspace/a", "line": 3}, {"path": "/etc/passwd"}, "x", {"path": 1}],
        "content": [
            {"type": "diff", "path": "/workspace/a", "oldText": "x", "newText": "y"},
            {"type": "diff", "path": "/srv/b", "oldText": None, "newText": "y"},
            {"type": "content", "content": {"type": "resource_link", "name": "c", "uri": "file:///workspace/c"}},
        ],
        "rawInput": {"path": "/workspace/a", "_meta": 1},
        "_meta": {"terminal_info": {"cwd": "/"}},
    }
    told = updated(talk, update)
    assert told["locations"] == [{"path": "/home/u/shop/a", "line": 3}]
    assert [each.get("path") for each in told["content"]] == ["/home/u/shop/a", "/shop.sandbox/srv/b", None]
    assert told["content"][2]["content"]["uri"] == "file:///home/u/shop/c"
    assert told["rawInput"] == update["rawInput"] and told["title"] == update["title"]
    assert "_meta" not in told


def test_permission_is_asked_and_given(talk: Conversation) -> None:
    tool = {"toolCallId": "1", "locations": [{"path": "/workspace/a"}]}
    options = [{"optionId": "o", "name": "Yes", "kind": "allow_once"}]
    params = {"sessionId": "s", "toolCall": tool, "options": options}
    told = only(talk.from_agent(line("session/request_permission", id="p", params=params)).to_editor)
    assert told["params"]["toolCall"]["locations"] == [{"path": "/home/u/shop/a"}]
    outcome = {"outcome": {"outcome": "selected", "optionId": "o"}}
    assert only(talk.from_editor(line(id="p", result=outcome)).to_agent)["result"] == outcome
    with pytest.raises(Refused):
        talk.from_editor(line(id="p", result=outcome))


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("fs/read_text_file", {"sessionId": "s", "path": "/workspace/a"}),
        ("fs/read_text_file", {"sessionId": "s", "path": "/etc/passwd"}),
        ("fs/write_text_file", {"sessionId": "s", "path": "/workspace/.git/hooks/post-commit", "content": "x"}),
        ("terminal/create", {"sessionId": "s", "command": "sh", "args": ["-c", "id"]}),
        ("elicitation/create", {"mode": "url", "url": "https://example.com"}),
        ("mcp/message", {}),
        ("_zed/anything", {}),
        ("session/new", {"cwd": "/"}),
        ("Session/Request_Permission", {}),
    ],
)
def test_what_an_editor_would_do_on_this_host_is_refused(talk: Conversation, method: str, params: Any) -> None:
    passed = talk.from_agent(line(method, id=3, params=params))
    assert passed.to_editor == []
    assert only(passed.to_agent)["error"]["code"] == -32601
    with pytest.raises(Refused):
        talk.from_agent(line(method, params=params))


@pytest.mark.parametrize(
    "data",
    [
        b"not json",
        b"[]",
        b"1",
        b"[" * 100_000,
        b'{"jsonrpc":"2.0","method":"session/update","params":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
        b'{"id":1}',
        b'{"id":1,"result":1,"error":{}}',
        b'{"id":1,"method":"session/update","result":{}}',
        b'{"id":[1],"method":"session/request_permission"}',
        b'{"id":true,"method":"session/request_permission"}',
        b'{"id":null,"result":{}}',
        b'{"method":1}',
        b'{"method":"session/update","params":NaN}',
        b'{"method":"session/update","params":1e999}',
        b'{"method":"session/update","params":' + b"1" * 5000 + b"}",
        b'{"id":5,"result":{}}',
        b'\xff{"method":"session/update"}',
    ],
)
def test_what_is_no_message_stays_in_the_sandbox(talk: Conversation, data: bytes) -> None:
    with pytest.raises(Refused):
        talk.from_agent(data)


def test_a_message_that_two_readers_would_read_differently_is_written_anew(talk: Conversation) -> None:
    twice = b'{"method":"fs/write_text_file","method":"session/update","params":{"path":"/etc","path":"/workspace"}}'
    (told,) = talk.from_agent(twice).to_editor
    assert told.count(b'"method"') == 1 and b"/etc" not in told and b"fs/" not in told


def test_an_error_keeps_its_words_and_nothing_to_act_on(talk: Conversation) -> None:
    asked(talk, "authenticate", {"methodId": "a"})
    error = {"code": -32000, "message": "sign in", "data": {"details": "why", "authMethods": [{"command": "sh"}]}}
    told = only(talk.from_agent(line(id=1, error=error)).to_editor)
    assert told["error"] == {"code": -32000, "message": "sign in", "data": {"details": "why"}}


@given(JSON)
def test_everything_else_is_left_as_it_is(value: Any) -> None:
    """What has none of the protocol's paths passes untouched, from the editor at least."""
    talk = Conversation(Places("shop", MOUNTS))
    kept = {"configId": "mode", "value": value}
    if not set(_keys(value)) & {"cwd", "uri", "additionalDirectories", "mcpServers"}:
        assert asked(talk, "session/set_config_option", kept) == kept


@given(JSON, st.sampled_from(["method", "params", "result", "error", "id"]))
def test_no_line_of_an_agent_breaks_the_connection(value: Any, key: str) -> None:
    talk = Conversation(Places("shop", MOUNTS))
    for around in ({"method": "session/update"}, {"id": 1}, {}):
        try:
            passed = talk.from_agent(json.dumps({**around, key: value}).encode())
        except Refused:
            continue
        assert all(json.loads(told) for told in (*passed.to_agent, *passed.to_editor))


def _keys(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(key for inner in value.values() for key in _keys(inner))]
    return [key for inner in value for key in _keys(inner)] if isinstance(value, list) else []
