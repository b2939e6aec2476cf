"""`{github: acme/shop, ...}` with real git on both ends: what the server got, and what became of its refs."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from gateway_world import in_loop
from git_world import GITHUB, TOKEN, commands, git_world

READ = "{github: acme/shop, secret: github}"
PUSH = "{github: acme/shop, push: [agent/*], secret: github}"
BASIC = "Basic " + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()


@pytest.mark.parametrize("version", ["0", "1", "2"])
def test_a_clone_goes_through_with_the_credential(tmp_path: Path, version: str) -> None:
    async def scenario() -> None:
        async with git_world(tmp_path, READ) as w:
            await w.clone("-c", f"protocol.version={version}")
            assert (w.directory / "work" / "two").read_text() == "two"
            await w.git("fetch", "-q", "--depth=1", "origin", "main")
            lines = await w.inside.quiet()
        assert {seen.target.partition("?")[0] for seen in w.server.requests} == {
            "/acme/shop.git/info/refs",
            "/acme/shop.git/git-upload-pack",
        }
        assert {tuple(seen.headers["authorization"]) for seen in w.server.requests} == {(BASIC,)}
        assert {line["verdict"] for line in lines} == {"allowed"}
        assert {line["rule"] for line in lines} == {"endpoints[0] (github acme/shop: read)"}

    in_loop(scenario())


def test_a_push_is_refused_where_only_reading_is_allowed_and_git_shows_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with git_world(tmp_path, READ) as w:
            await w.clone()
            before = w.refs()
            await w.commit("three")
            text = await w.git("push", "origin", "HEAD:agent/x", fails=True)
            assert (
                "endpoints[0] (github acme/shop: read) does not allow GET github.com:443/acme/shop.git/info/refs"
                in text
            )
            edit = "change Sandboxfile.yaml:4: - {github: acme/shop, push: [agent/*], secret: github}"
            assert edit in text and "This endpoint is for GitHub of acme/shop: clone and fetch" in text
        assert w.refs() == before
        assert not [seen for seen in w.server.requests if "receive-pack" in seen.target]

    in_loop(scenario())


def test_another_repository_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with git_world(tmp_path, READ) as w:
            text = await w.git("clone", f"https://{GITHUB}/acme/shop2.git", fails=True)
        assert "does not allow GET github.com:443/acme/shop2.git/info/refs" in text
        assert w.server.requests == []

    in_loop(scenario())


@pytest.mark.parametrize("version", ["0", "1", "2"])
def test_a_push_to_a_named_ref_goes_through(tmp_path: Path, version: str) -> None:
    async def scenario() -> None:
        async with git_world(tmp_path, PUSH) as w:
            await w.clone()
            await w.git("config", "protocol.version", version)
            await w.commit("three")
            await w.git("push", "-q", "--atomic", "origin", "HEAD:agent/x")
            head = (await w.git("rev-parse", "HEAD")).strip()
            lines = await w.inside.quiet()
        assert w.refs()["refs/heads/agent/x"] == head
        (push,) = w.server.pushes
        assert commands(push) == [b"refs/heads/agent/x"] and push.headers["authorization"] == [BASIC]
        assert b"PACK" in push.body
        assert {line["verdict"] for line in lines} == {"allowed"}

    in_loop(scenario())


@pytest.mark.parametrize(
    "refspecs",
    [
        ["HEAD:main"],
        ["HEAD:agent/x", "HEAD:main"],
        ["HEAD:agent/deep/er"],
        ["HEAD:refs/tags/agent/x"],
        ["HEAD:refs/heads/agent"],
        ["HEAD:refs/agent/x"],
        ["+HEAD~2:main"],
    ],
)
def test_a_push_to_any_other_ref_is_refused_before_a_byte_goes_on(tmp_path: Path, refspecs: list[str]) -> None:
    async def scenario() -> None:
        async with git_world(tmp_path, PUSH) as w:
            await w.clone()
            before = w.refs()
            await w.commit("three")
            text = await w.git("push", "origin", *refspecs, fails=True)
            assert text.count("(refused by the sandbox)") == 1 and text.count("[remote rejected]") == len(refspecs)
            assert "remote: To allow it, change Sandboxfile.yaml:4: write `push: [agent/*, " in text
            lines = await w.inside.quiet()
        assert w.refs() == before
        assert not [seen for seen in w.server.requests if seen.method == "POST" and "receive-pack" in seen.target]
        (line,) = [line for line in lines if line["verdict"] == "refused"]
        assert "does not allow a push to refs/" in line["reason"] and line["bytes_out"] == 0

    in_loop(scenario())


@pytest.mark.parametrize(("changes", "allowed"), [("", False), (", changes: [create, update, delete]", True)])
def test_a_deletion_needs_to_be_allowed(tmp_path: Path, changes: str, allowed: bool) -> None:
    async def scenario() -> None:
        async with git_world(tmp_path, PUSH.replace("]", f"]{changes}", 1)) as w:
            await w.clone()
            await w.git("push", "origin", ":agent/old", fails=not allowed)
            lines = await w.inside.quiet()
        assert ("refs/heads/agent/old" in w.refs()) != allowed
        assert len(w.server.pushes) == allowed
        refused = [line["reason"] for line in lines if line["verdict"] == "refused"]
        assert allowed or refused == [
            "endpoints[0] (github acme/shop: read, push) does not allow a push that would delete refs/heads/agent/old;"
            " it may only create and update refs"
        ]

    in_loop(scenario())


@pytest.mark.parametrize(("changes", "allowed"), [("", True), (", changes: [create]", False)])
def test_a_forced_push_is_an_update(tmp_path: Path, changes: str, allowed: bool) -> None:
    async def scenario() -> None:
        async with git_world(tmp_path, PUSH.replace("]", f"]{changes}", 1)) as w:
            await w.clone()
            before = w.refs()
            await w.git("push", "--force", "origin", "HEAD~1:agent/old", fails=not allowed)
            assert (w.refs() != before) == allowed and len(w.server.pushes) == allowed
            await w.git("push", "-q", "origin", "HEAD:agent/new")
            assert w.refs()["refs/heads/agent/new"] == before["refs/heads/main"]

    in_loop(scenario())


def test_a_large_push_goes_through_in_chunks_behind_a_question(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with git_world(tmp_path, PUSH) as w:
            await w.clone()
            await w.git("config", "http.postBuffer", "65536")
            await w.commit("large", os.urandom(3 << 20))
            await w.git("push", "-q", "origin", "HEAD:agent/large")
            assert "refs/heads/agent/large" in w.refs()
            (push,) = w.server.pushes
            assert push.headers["transfer-encoding"] == ["chunked"] and len(push.body) > 3 << 20
            text = await w.git("push", "origin", "HEAD:main", fails=True)
            assert "403" in text
        assert w.refs()["refs/heads/main"] != w.refs()["refs/heads/agent/large"]
        assert len(w.server.pushes) == 1

    in_loop(scenario())


def test_a_shallow_clone_can_push_and_options_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with git_world(tmp_path, PUSH) as w:
            await w.clone("--depth=1")
            await w.commit("three")
            await w.git("push", "-q", "origin", "HEAD:agent/x")
            (push,) = w.server.pushes
            assert b"shallow " in push.body[:60] and commands(push) == [b"refs/heads/agent/x"]
            text = await w.git("push", "-o", "merge_request.create", "origin", "HEAD:agent/y", fails=True)
            assert "403" in text
            lines = await w.inside.quiet()
        assert "refs/heads/agent/y" not in w.refs() and len(w.server.pushes) == 1
        assert "does not allow push options in a push" in lines[-1]["reason"]

    in_loop(scenario())


def test_tags_are_refs_of_their_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with git_world(tmp_path, PUSH.replace("agent/*", "refs/tags/agent-*")) as w:
            await w.clone()
            await w.git("tag", "agent-1")
            await w.git("tag", "v1")
            await w.git("push", "-q", "origin", "agent-1")
            await w.git("push", "origin", "v1", fails=True)
            await w.git("push", "origin", "HEAD:refs/heads/agent-1", fails=True)
        assert {name for name in w.refs() if "tags" in name} == {"refs/tags/agent-1"}

    in_loop(scenario())


@pytest.mark.parametrize(("ref", "allowed"), [("agent/x", True), ("main", False)])
def test_the_same_by_http2(tmp_path: Path, ref: str, allowed: bool) -> None:
    async def scenario() -> None:
        async with git_world(tmp_path, PUSH, alpn="h2") as w:
            await w.clone("-c", "http.version=HTTP/2")
            await w.git("config", "http.version", "HTTP/2")
            before = w.refs()
            await w.commit("three")
            await w.git("push", "origin", f"HEAD:{ref}", fails=not allowed)
            lines = await w.inside.quiet()
        assert (w.refs() != before) == allowed and len(w.server.pushes) == allowed
        assert {seen.headers[":scheme"][0] for seen in w.server.requests} == {"https"}
        assert [line["verdict"] for line in lines].count("refused") == (not allowed)

    in_loop(scenario())
