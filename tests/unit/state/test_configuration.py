"""What a sandbox runs with: kept whole, or not known at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.build.blueprint import Blueprint
from engine.decoding import decode
from engine.gateway.rules import Rule
from engine.guest.compose_project import ComposeProject
from engine.lifecycle.agent import dress
from engine.lifecycle.credentials import Credentials
from engine.project.pieces import Piece
from engine.project.tree import opened
from engine.resolve.compose import CONFIGS_LABEL, Compose
from engine.resolve.mounts_and_ports import wanted_forwards
from engine.state.configuration import PARTS, Configuration, Running, load_running, save_running
from engine.state.instances import AgentCall
from engine.state.layout import Layout
from engine.supervisor.adjustment import Adjustment
from sandboxfile import Loaded, parse
from vmm.spec import HostForward

CONFIGURATION = Configuration({"endpoints": ["a"], "ports": [1]}, ("/src",), {"services.web.build": "1"}, {})
RUNNING = Running(CONFIGURATION, (80, 443), "/cache/image/x", ("services",))

PIECE = Piece("b", "/b", "1", ("b/x.dockerignore",), ("*",), ("x",), "*.py")
PROJECT = ComposeProject("shop", "{}", ("a",), ("b",), {"b": (PIECE,)}, (PIECE, PIECE), "/src", (1, 2))


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


def load(directory: Path, text: str) -> Loaded:
    return parse(f'version: "1"\n{text}', directory / "Sandboxfile.yaml")


def test_it_comes_back_as_it_was(layout: Layout) -> None:
    save_running(layout, "shop", RUNNING)
    assert load_running(layout, "shop") == RUNNING


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"version": 2}', '{"version": 1, "configuration": 3}'])
def test_what_cannot_be_read_is_not_known(layout: Layout, text: str | None) -> None:
    path = layout.instance("shop").configuration
    path.parent.mkdir(parents=True)
    if text is not None:
        path.write_text(text)
    assert load_running(layout, "shop") is None


def test_another_version_is_not_guessed_at(layout: Layout) -> None:
    save_running(layout, "shop", RUNNING)
    path = layout.instance("shop").configuration
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    assert load_running(layout, "shop") is None


def test_a_part_is_adopted_with_what_it_reads() -> None:
    new = Configuration({"endpoints": ["b"], "ports": [2]}, ("/src",), {"services.web.build": "2"}, {})
    ports = CONFIGURATION.adopt(new, ("ports",))
    assert ports.sandbox == {"endpoints": ["a"], "ports": [2]} and ports.contents == CONFIGURATION.contents
    assert CONFIGURATION.adopt(new, ("services", "configs")).contents == new.contents
    assert ports.key() != CONFIGURATION.key() == CONFIGURATION.adopt(CONFIGURATION, ("ports",)).key()


def test_a_files_configuration_survives_its_file(layout: Layout, tmp_path: Path) -> None:
    """What is written down compares equal to what the same file gives later, numbers as keys and all."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "c.txt").write_text("one\n")
    text = """
setup: [{run: make, inputs: [c.txt]}]
services:
  web: {build: ./web, environment: {X: 1.5, Y: true, Z: null}, configs: [c], ports: ["80:80"]}
configs: {c: {file: c.txt}}
"""
    configuration = Blueprint.of(load(tmp_path, text), layout).configuration
    save_running(layout, "shop", Running(configuration, (), ""))
    running = load_running(layout, "shop")
    assert running is not None and running.configuration == configuration
    assert Blueprint.of(load(tmp_path, f"# said otherwise{text}"), layout).configuration == configuration
    assert set(configuration.contents) == {"services.web.build", "configs.c.file"}
    assert "setup[0]" in configuration.build and not {"images", "services"} & set(configuration.build)
    (tmp_path / "c.txt").write_text("two\n")
    now = Blueprint.of(load(tmp_path, text), layout).configuration
    assert now.contents["configs.c.file"] != configuration.contents["configs.c.file"]
    assert now.contents["services.web.build"] == configuration.contents["services.web.build"]


def test_a_config_marks_the_services_that_use_it(tmp_path: Path) -> None:
    """Compose replaces a container when its labels change, and not when only a config's content does."""
    text = """
services:
  a: {image: a, configs: [one]}
  b: {image: b, configs: [{source: two, target: /x}], labels: [k=v]}
  c: {image: c, configs: [two], labels: {k: v}}
  d: {image: d}
configs: {one: {file: one.txt}, two: {content: hello}}
"""

    def labels(text: str) -> list[object]:
        tree = opened(tmp_path)
        services = Compose.of(load(tmp_path, text), tree).keyed(tree).document["services"]
        return [services[name].get("labels") for name in "abcd"]

    (tmp_path / "one.txt").write_text("1")
    before = labels(text)
    assert labels(text) == before and before[3] is None
    assert isinstance(before[1], list) and before[1][0] == "k=v" and before[1][1].startswith(f"{CONFIGS_LABEL}=")
    assert isinstance(before[2], dict) and before[2]["k"] == "v" and before[2][CONFIGS_LABEL]
    (tmp_path / "one.txt").write_text("2")
    assert [a == b for a, b in zip(before, labels(text), strict=True)] == [False, True, True, True]
    (tmp_path / "one.txt").write_text("1")
    assert [a == b for a, b in zip(before, labels(text.replace("hello", "hallo")), strict=True)] == [
        True, False, False, True,
    ]  # fmt: skip


def test_a_project_for_the_guest(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "e.env").write_text("A=1\n")
    text = (
        "name: shop\nservices: {web: {build: ./web}, db: {image: db, env_file: [e.env]}, far: {build: 'https://h/x'}}\n"
    )
    tree = opened(tmp_path)
    project = Compose.of(load(tmp_path, text), tree).keyed(tree).project(tree)
    assert (project.name, project.pulled, project.built) == ("shop", ("db",), ("web", "far"))
    assert project.services == ("db", "far", "web") and [piece.path for piece in project.contexts["web"]] == ["web"]
    assert [(piece.path, piece.target) for piece in project.files] == [("e.env", "/var/lib/sandbox/files/db.0.env")]
    assert all(piece.key for piece in (*project.files, *project.contexts["web"]))
    assert (project.root, project.identity) == (str(tmp_path), (tmp_path.stat().st_dev, tmp_path.stat().st_ino))
    assert decode(ComposeProject, json.loads(json.dumps(project.to_json()))) == project


@pytest.mark.parametrize("project", [None, PROJECT])
def test_an_adjustment_crosses_the_socket(project: ComposeProject | None) -> None:
    adjustment = Adjustment(
        configuration=CONFIGURATION,
        parts={"ports": ("ports",), "record": ("agent",)},
        rules=(Rule("a.example.com", 8443, origin="endpoints[0]"),),
        files=(("/etc/npmrc", 0o644, "x\n"),),
        forwards=(HostForward(3000, 80),),
        project_name="shop",
        project=project,
        images=("b",),
        agent=AgentCall(["sh"], "agent"),
    )
    assert Adjustment.from_json(json.loads(json.dumps(adjustment.to_json()))) == adjustment


def test_parts_arrive_in_the_order_of_their_application() -> None:
    backwards = {part: () for part in reversed(PARTS)}
    sent = Adjustment(CONFIGURATION, backwards, (), (), (), "shop", None).to_json()
    assert tuple(Adjustment.from_json(json.loads(json.dumps(sent))).parts) == PARTS


def test_a_port_that_was_picked_stays(tmp_path: Path) -> None:
    loaded = load(tmp_path, "ports: [80, 80, '3000:90']\nservices: {a: {image: a, ports: ['91:1', '92:1/udp', '1']}}\n")
    before = (HostForward(40001, 80), HostForward(3000, 80))
    forwards = wanted_forwards(loaded, before)
    assert forwards[0] == HostForward(40001, 80)
    assert forwards[1].guest_port == 80 and forwards[1].host_port not in (40001, 3000, 91)
    assert forwards[2:] == (HostForward(3000, 90), HostForward(91, 91))
    assert wanted_forwards(loaded, forwards) == forwards


def test_what_is_kept_of_an_agent(tmp_path: Path) -> None:
    assert dress(load(tmp_path, "agent: {use: codex}\n"), Credentials()).keeps is None
    keeps = dress(load(tmp_path, "agent: {command: a, keep: true}\n"), Credentials()).keeps
    assert keeps == ("/home/agent", "agent", [".bash_history"])
    keeps = dress(load(tmp_path, "agent: {use: codex, keep: true, user: root}\n"), Credentials()).keeps
    assert keeps == ("/root", "root", [".bash_history", ".codex/sessions", ".codex/history.jsonl"])


def test_the_agent_in_the_record(tmp_path: Path) -> None:
    assert dress(load(tmp_path, ""), Credentials()).call is None
    loaded = load(tmp_path, "agent: {command: [a, b], args: [c], env: {X: y}, user: root}\n")
    assert dress(loaded, Credentials()).call == AgentCall(["a", "b", "c"], "root", {"X": "y"})
