"""What `plan` says of the agent: version, packages and whose word their digests are, size, and hosts."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from engine.build.blueprint import Blueprint
from engine.build.nodes.agent_layer import RECORD
from engine.lifecycle.agent_outlook import AgentOutlook, look_at_agent
from engine.state.layout import Layout
from sandboxfile import load

DIGEST = "sha512-" + "A" * 86 + "=="


def look(tmp_path: Path, text: str, put: str = "") -> AgentOutlook:
    """The outlook of a file; the entry of kind `put` is in the cache."""
    (tmp_path / "Sandboxfile.yaml").write_text(f'version: "1"\nname: it\n{text}')
    loaded = load(tmp_path / "Sandboxfile.yaml")
    blueprint = Blueprint.of(loaded, Layout.from_environment(os.environ))
    for node in blueprint.chain.graph.order():
        if put and node.kind == put:

            async def fill(kind: str = node.kind, key: str = node.key) -> None:
                async with blueprint.store.build(kind, key, on_wait=print) as build:
                    assert build is not None
                    (build.directory / RECORD).write_text(json.dumps({"integrity": DIGEST}))

            asyncio.run(fill())
    found = look_at_agent(loaded, blueprint)
    assert found is not None
    return found


@pytest.mark.usefixtures("isolated")
def test_an_agent_before_it_is_fetched(tmp_path: Path) -> None:
    found = look(tmp_path, "agent: {use: claude-code}\n")
    (package,) = found.packages
    assert package.title == "@anthropic-ai/claude-code-linux-x64 2.1.330" and package.size is None
    assert str(package.integrity).startswith("sha512-") and package.digest_from == "named by the definition"
    (host,) = found.hosts
    assert (host.host, host.allowed) == ("api.anthropic.com", False)
    assert "no endpoint allows it" in found.render() and found.size is None


@pytest.mark.usefixtures("isolated")
def test_another_version_has_the_registry_s_digest_once_it_is_there(tmp_path: Path) -> None:
    text = "agent: {use: claude-code, version: 2.0.0}\nendpoints: [api.anthropic.com]\n"
    found = look(tmp_path, text)
    assert found.version == "2.0.0" and found.packages[0].integrity is None
    assert "digest named by the registry: asked for when it is fetched" in found.render()
    fetched = look(tmp_path, text, put="agent-package")
    assert fetched.packages[0].integrity == DIGEST and (fetched.packages[0].size or 0) > 0
    assert fetched.hosts[0].allowed and DIGEST in fetched.render()


@pytest.mark.usefixtures("isolated")
def test_the_size_is_that_of_the_layer(tmp_path: Path) -> None:
    found = look(tmp_path, "agent: {use: openclaw}\n", put="agent-layer")
    assert found.size and "that all its sandboxes share" in found.render()
    packages = found.packages[-1]
    assert packages.title.endswith("packages of openclaw") and packages.integrity is None
    assert "digest named by its lock file: each has its own" in found.render()
    assert json.loads(json.dumps(found.to_json()))["packages"][-1]["digest_from"] == "named by its lock file"


@pytest.mark.usefixtures("isolated")
def test_a_file_without_an_agent(tmp_path: Path) -> None:
    (tmp_path / "Sandboxfile.yaml").write_text('version: "1"\nname: it\n')
    loaded = load(tmp_path / "Sandboxfile.yaml")
    assert look_at_agent(loaded, Blueprint.of(loaded, Layout.from_environment(os.environ))) is None
