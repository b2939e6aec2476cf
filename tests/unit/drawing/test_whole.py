"""Pictures of real files: those of every template, and of a file with the names that its parts could share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from engine.drawing.dot import draw_dot
from engine.drawing.mermaid import draw_mermaid
from engine.drawing.of_file import draw_file
from engine.drawing.picture import Picture
from engine.drawing.svg import draw_svg
from engine.drawing.text import draw_text
from engine.starter.templates import Template, list_templates, read_template
from engine.state.layout import Layout
from sandboxfile import load

PENS: Sequence[Callable[[Sequence[Picture]], str]] = (draw_text, draw_dot, draw_mermaid, draw_svg)


def drawn(project: Path, text: str) -> Picture:
    (project / "Sandboxfile.yaml").write_text(text)
    (one,) = load(project / "Sandboxfile.yaml").each()
    return draw_file(one, Layout.from_environment(os.environ))


def ids(picture: Picture) -> list[str]:
    return [part.id for part in picture.parts]


@pytest.mark.parametrize("template", list_templates(), ids=lambda template: template.name)
def test_the_file_of_every_template_is_drawn_by_every_pen(template: Template, tmp_path: Path) -> None:
    picture = drawn(tmp_path, read_template(template.name))
    assert len(set(ids(picture))) == len(picture.parts), ids(picture)
    order = ids(picture)
    assert all(order.index(need) < order.index(part.id) for part in picture.parts for need in part.needs)
    for pen in PENS:
        assert pen([picture])


def test_an_agent_that_is_installed_is_two_parts(tmp_path: Path) -> None:
    """What is built has the id that it has in `plan` and in the cache; what runs has one of its own."""
    picture = drawn(tmp_path, 'version: "1"\nagent: {use: claude-code}\n')
    installed, running = [part for part in picture.parts if part.kind == "agent"]
    assert (installed.id, installed.state) == ("agent", "build")
    assert (running.id, running.state) == ("agent:running", "each up")
    assert installed.id in next(part for part in picture.parts if part.id == "restore").needs


def test_all_ids_are_different_whatever_the_names_are(tmp_path: Path) -> None:
    picture = drawn(
        tmp_path,
        """\
version: "1"
agent: {command: [run]}
mounts: [.:/w]
ports: [3000, 3001]
secrets: {agent: {env: A}, gateway: {env: B}}
services:
  agent: {image: a, ports: ["53:53/tcp", "53:53/udp"]}
  restore: {image: b}
  "0": {image: c, ports: ["1:1"]}
""",
    )
    assert sorted(set(ids(picture))) == sorted(ids(picture))
    for pen in PENS:
        assert pen([picture])


def test_only_ports_that_the_host_offers_are_drawn(tmp_path: Path) -> None:
    """The host's loopback offers those of TCP (engine/resolve/mounts_and_ports.py)."""
    text = 'version: "1"\nservices: {dns: {image: dns, ports: ["53:53/udp", "54:54", "55"]}}\n'
    titles = [part.title for part in drawn(tmp_path, text).parts if part.kind == "port"]
    assert titles == ["127.0.0.1:54 -> dns:54"]
