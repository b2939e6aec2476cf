"""`sandbox graph`, compared with files that people have looked at (`graph/`)."""

from __future__ import annotations

import json
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pexpect
import pytest
from cli_world import DEADLINE_S, CommandLine

from engine.cli.commands.graph import FORMATS

HERE = Path(__file__).parent / "graph"
SHOP = (HERE / "shop.yaml").read_text()
AGENTS = 'version: "1"\nname: team\nagents: {one: {command: a}, two: {command: b, packages: [jq]}}\n'


@pytest.fixture
def shop(sandbox: CommandLine) -> CommandLine:
    sandbox.file(SHOP)
    (sandbox.project / "docs").mkdir()
    return sandbox


@pytest.mark.parametrize(("format_", "ending"), [("text", "txt"), ("dot", "dot"), ("mermaid", "mmd"), ("svg", "svg")])
def test_what_it_draws(shop: CommandLine, format_: str, ending: str) -> None:
    """`sandbox graph --format F > tests/contract/cli/graph/shop.ENDING` with an empty cache makes a new one."""
    ran = shop("graph", "--format", format_, LANG="C.UTF-8", PYTHONIOENCODING="utf-8")
    assert ran.code == 0, ran.err
    assert ran.out == (HERE / f"shop.{ending}").read_text(encoding="utf-8")


def test_json(shop: CommandLine) -> None:
    document = json.loads(shop("graph", "--json").out)
    (one,) = document["sandboxes"]
    parts = {part["id"]: part for part in one["parts"]}
    assert document["version"] == 1 and one["name"] == "shop"
    assert parts["setup[0]"] | {"needs": []} == {
        "id": "setup[0]",
        "kind": "setup",
        "title": "npm ci",
        "state": "build",
        "needs": [],
        "note": "not built yet",
    }
    assert parts["service:web"]["needs"] == ["service:db", "mount:0", "mount:1"]
    assert parts["agent:running"]["state"] == "each up"
    order = list(parts)
    assert all(order.index(need) < order.index(id) for id, part in parts.items() for need in part["needs"])


def test_the_first_file_of_a_coding_agent(sandbox: CommandLine) -> None:
    """What `init` has written is drawn in each format. tests/unit/drawing/test_whole.py does so for every template."""
    assert sandbox("init", "claude-code", "--yes").code == 0
    for format_ in FORMATS:
        ran = sandbox("graph", "--format", format_)
        assert (ran.code, ran.err) == (0, "") and "agent" in ran.out


def test_one_picture_for_each_agent(sandbox: CommandLine) -> None:
    sandbox.file(AGENTS)
    names = [one["name"] for one in json.loads(sandbox("graph", "--json").out)["sandboxes"]]
    assert names == ["team-one", "team-two"]
    assert sandbox("graph", "--format", "dot").out.count("subgraph cluster_") == 2
    assert sandbox("graph", "--format", "mermaid").out.count("subgraph s") == 2
    svg = ElementTree.fromstring(sandbox("graph", "--format", "svg").out)
    assert [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "name"] == names
    assert [one["name"] for one in json.loads(sandbox("graph", "--json", "--agent", "two").out)["sandboxes"]] == names[
        1:
    ]
    assert sandbox("graph", "--agent", "three").code == 2
    text = sandbox("graph").out
    assert text.startswith("team-one\n") and "\n\nteam-two\n" in text


def test_into_a_file(shop: CommandLine) -> None:
    ran = shop("graph", "--format", "svg", "-o", "shop.svg")
    assert (ran.code, ran.out) == (0, "")
    assert (shop.project / "shop.svg").read_text(encoding="utf-8") == (HERE / "shop.svg").read_text(encoding="utf-8")
    ran = shop("graph", "-o", "nowhere/shop.txt")
    assert ran.code == 1 and "nowhere/shop.txt cannot be written: No such file or directory" in ran.err


def test_colours_on_a_terminal_only(shop: CommandLine) -> None:
    argv = subprocess.list2cmdline(shop.argv("graph"))
    for term, coloured in (("xterm", True), ("dumb", False)):
        env = shop.environment(TERM=term, NO_COLOR="")
        drawn, code = pexpect.run(argv, cwd=str(shop.project), env=env, withexitstatus=True, timeout=DEADLINE_S)
        assert code == 0 and (b"\x1b[" in drawn) == coloured
    assert "\x1b[" not in shop("graph").out


def test_without_unicode(shop: CommandLine) -> None:
    env = shop.environment(PYTHONIOENCODING="ascii")
    done = subprocess.run(shop.argv("graph"), cwd=shop.project, env=env, capture_output=True, timeout=DEADLINE_S)
    assert done.returncode == 0 and done.stdout.isascii() and b"\n  |-o initramfs" in done.stdout


def test_a_bad_file_draws_nothing(sandbox: CommandLine) -> None:
    sandbox.file('version: "1"\nmounts: [./nowhere:/w]\n')
    ran = sandbox("graph")
    assert ran.code == 2 and ran.out == "" and "mounts[0]" in ran.err


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_reads_it(shop: CommandLine) -> None:
    dot = shop("graph", "--format", "dot").out
    done = subprocess.run(["dot", "-Tplain"], input=dot, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0 and done.stderr == ""
    assert sum(line.startswith("node ") for line in done.stdout.splitlines()) == dot.count("[label=")
