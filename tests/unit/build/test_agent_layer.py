"""The layer of an agent: its parts, its links, and what its key hangs on."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from test_package_tree import entry, tarball

from engine.agents.lock import Locked
from engine.build.context import BuildContext
from engine.build.nodes import agent_layer, attach_layer
from engine.build.nodes.agent_layer import LAYER, PACKAGE, AgentLayer, Part, read_links
from engine.state.instance_paths import Sockets
from vmm.tools import Tool, Tools

# In the place of mkfs.erofs: the layer is a list of what is in the tree.
LIST = """
import os, sys
*options, target, root = sys.argv[1:]
found = {os.path.relpath(os.path.join(where, name), root) for where, _, names in os.walk(root) for name in names}
open(target, "w").write("\\n".join(sorted(found)))
"""
SOME = "sha512-" + "A" * 86 + "=="


def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *parts: Part) -> tuple[list[str], dict[str, str]]:
    python = str(Path(sys.executable).resolve())  # a jail lets a program read what belongs to itself alone
    tool = Tool("mkfs.erofs", (python, "-I", "-S", "-c", LIST), {}, "1", "system", Path(python))
    tools = Tools(tool, tool, tool, tool, tool, (), tmp_path, "6", tmp_path, tmp_path, "id")
    monkeypatch.setattr(agent_layer, "load_toolchain", lambda path: tools)
    parents = {name: tmp_path / name for name in ("toolchain", "package[0]", "package[1]")}
    (tmp_path / "out").mkdir()
    context = BuildContext(tmp_path / "out", parents, lambda line: None, Sockets(tmp_path / "run"))
    asyncio.run(AgentLayer(parts).build(context))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [LAYER, "programs.json"], "the tree is gone"
    return (tmp_path / "out" / LAYER).read_text().split("\n"), read_links(tmp_path / "out")


def test_a_package_and_a_list_of_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("package[0]", "package[1]"):
        (tmp_path / name).mkdir()
    tarball(tmp_path / "package[0]" / PACKAGE, entry("package/bin/node", b"x", mode=0o644))
    tarball(
        tmp_path / "package[1]" / "0.tgz", *(entry(f"package/{name}", b"x") for name in ("cli.js", "lib/a.js", ".mark"))
    )
    tarball(tmp_path / "package[1]" / "1.tgz", entry("odd-name/index.js", b"x"))
    locked = (
        Locked("node_modules/claw", "claw", "1.0.0", SOME, (("claw", "cli.js"),)),
        Locked("node_modules/claw/node_modules/dep", "dep", "1.0.0", SOME, (("dep", "index.js"),)),
    )
    node = Part("package[0]", "/opt/node", {"node": "package/bin/node"})
    files, links = build(
        tmp_path, monkeypatch, node, Part("package[1]", "/opt/claw", locked=locked, main="claw", without=(".mark",))
    )
    assert files == [
        "claw/node_modules/.bin/claw",
        "claw/node_modules/claw/cli.js",
        "claw/node_modules/claw/lib/a.js",
        "claw/node_modules/claw/node_modules/.bin/dep",
        "claw/node_modules/claw/node_modules/dep/index.js",
        "node/package/bin/node",
    ]
    assert links == {
        "/opt/node": "/opt/.agent/node",
        "/usr/local/bin/node": "/opt/.agent/node/package/bin/node",
        "/opt/claw": "/opt/.agent/claw",
        "/usr/local/bin/claw": "/opt/.agent/claw/node_modules/claw/cli.js",
    }


def test_the_guest_s_side_finds_the_disk_and_links(tmp_path: Path) -> None:
    for name, serial in (("vda", "root"), ("vdc", "agent")):
        (tmp_path / "block" / name).mkdir(parents=True)
        (tmp_path / "block" / name / "serial").write_text(f"{serial}\n")
    (tmp_path / "block" / "vdb").mkdir()
    assert attach_layer.find_disk("agent", tmp_path / "block") == "/dev/vdc"
    assert attach_layer.find_disk("other", tmp_path / "block") is None
    assert attach_layer.wait_for_disk("agent", tmp_path / "block") == "/dev/vdc"
    for target in ("/opt/.agent/a", "/opt/.agent/b"):
        attach_layer.link(str(tmp_path / "bin/run"), target)
    assert (tmp_path / "bin/run").readlink() == Path("/opt/.agent/b")


def test_a_disk_that_never_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach_layer, "DISK_S", 0.05)
    with pytest.raises(SystemExit, match="the disk agent was not there"):
        attach_layer.wait_for_disk("agent", tmp_path)


def test_where_packages_are_is_part_of_the_key() -> None:
    described = {
        json.dumps(Part("package[0]", into, {"x": path}).describe()) for into in ("/opt/a", "/opt/b") for path in "xy"
    }
    assert len(described) == 4
