"""Pictures with made-up parts: every pen writes what its reader can read, whatever the names are."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.drawing.dot import draw_dot
from engine.drawing.layout import BOX_HEIGHT, BOX_WIDTH, lay_out
from engine.drawing.mermaid import draw_mermaid
from engine.drawing.palette import wrap
from engine.drawing.picture import Picture, PicturePart, State
from engine.drawing.svg import draw_svg
from engine.drawing.text import draw_text

STATES: tuple[State, ...] = ("cached", "build", "not needed", "each up", "declared")
NASTY = (
    '"];n0_0[label="owned',
    "</text><script>alert(1)</script>",
    "a\\",
    "`end` #quot; %% x",
    "&lt;&amp;",
    "]] --> n0_0; click n0_0 href javascript:x",
    "{<b>|x}",
    "subgraph end",
)


def part(id: str, *needs: str, state: State = "build", title: str = "") -> PicturePart:
    return PicturePart(id, id.partition(":")[0], title or f"the {id}", state, needs)


def picture(*parts: PicturePart) -> Picture:
    return Picture("shop", parts)


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    parts: list[PicturePart] = []
    for number in range(draw(st.integers(1, 14))):
        needs = draw(st.lists(st.sampled_from([one.id for one in parts]), max_size=3)) if parts else []
        title = draw(st.sampled_from(NASTY) | st.text(st.characters(categories=("L", "N", "P", "S")), max_size=40))
        parts.append(PicturePart(f"p{number}", "part", title, draw(st.sampled_from(STATES)), tuple(needs)))
    return Picture(draw(st.sampled_from(NASTY)), tuple(parts))


def test_lines_leave_out_what_another_need_has_already() -> None:
    one = picture(part("a"), part("b", "a"), part("c", "a", "b"), part("d", "a", "c", "b"))
    assert one.lines == {"a": (), "b": ("a",), "c": ("b",), "d": ("c",)}


def test_rows_are_below_what_they_need_and_right_above_what_needs_them() -> None:
    one = picture(part("a"), part("b", "a"), part("c", "b"), part("file"), part("end", "c", "file"), part("leaf", "a"))
    assert one.layers == {"a": 0, "b": 1, "c": 2, "file": 2, "end": 3, "leaf": 1}


def test_many_of_one_kind_are_one_part() -> None:
    names = [part(f"endpoint:{n}", *(["secret"] if n == 30 else []), state="declared") for n in range(40)]
    one = picture(part("secret"), *names, part("gateway", *(name.id for name in names)), part("end", "gateway"))
    drawn = one.condensed()
    assert [p.title for p in drawn.parts if p.kind == "endpoint"][-2:] == ["the endpoint:10", "and 29 more"]
    assert len(drawn.lines["gateway"]) == 12 and drawn.lines["endpoint:39"] == ("secret",)
    assert picture(*one.parts[:5]).condensed() == picture(*one.parts[:5])
    for draw in (draw_dot, draw_mermaid, draw_svg):
        assert "and 29 more" in draw([one]) and "endpoint:20" not in draw([one])
    assert draw_text([one]).count("◇") == 41  # and the legend


def test_text() -> None:
    one = picture(
        part("tools", state="cached"),
        part("image", "tools", state="not needed"),
        part("disk", "tools", state="cached"),
        part("booted", "tools", "image", "disk"),
        *(part(f"name:{n}", state="declared", title=f"n{n}") for n in range(4)),
        part("gateway", *(f"name:{n}" for n in range(4)), state="each up"),
        part("restore", "booted", "gateway", state="each up"),
        part("agent", "restore", state="each up", title="x" * 70),
        part("port:1", "restore", state="each up", title="3000"),
    )
    drawn = draw_text([one])
    assert (
        drawn
        == f"""\
shop
  ● tools      the tools
  · image      the image
  ├─● disk     the disk, after tools
  ○ booted     the booted, after disk
  ├─◇ name     n0
  ├─◇ name     n1
  ├─◇ name     n2
  ├─◇ name     n3
  ├─◆ gateway  the gateway, after 4 names
  ◆ restore    the restore, after gateway
  ├─◆ agent    {"x" * 57}...
  ◆ port       3000

● 2 cached   ○ 1 to build   · 1 not needed, as what needs it is cached   ◆ 4 made by each `up`   ◇ 4 from the file
"""
    )
    assert draw_text([one], plain=True).isascii()
    assert draw_text([one], paint=lambda text, state: f"<{state}>{text}").count("<cached>") == 3


@given(pictures())
def test_text_has_each_part_once_below_its_needs(one: Picture) -> None:
    lines = draw_text(
        [Picture("x", tuple(PicturePart(p.id, p.id, "", "declared", p.needs) for p in one.parts))]
    ).splitlines()
    found = [match[1] for line in lines if (match := re.match(r"  (?:[├└]─)?◇ (p\d+)\b", line))]
    assert sorted(found) == sorted(p.id for p in one.parts)
    assert all(found.index(need) < found.index(p.id) for p in one.parts for need in p.needs)


@given(pictures())
def test_boxes_do_not_overlap_and_lines_lead_down(one: Picture) -> None:
    placed = lay_out(one)
    corners = [(box.x, box.y) for box in placed.boxes.values()]
    assert len(corners) == len(one.parts)
    for index, (x, y) in enumerate(corners):
        assert -0.01 <= x <= placed.width - BOX_WIDTH + 0.01 and 0 <= y <= placed.height - BOX_HEIGHT
        assert all(abs(x - u) >= BOX_WIDTH or abs(y - v) >= BOX_HEIGHT for u, v in corners[:index])
    for points in placed.lines.values():
        assert all(upper.y < lower.y for upper, lower in pairwise(points))
    assert lay_out(one) == placed


@given(pictures())
def test_svg_is_xml_with_the_names_as_text(one: Picture) -> None:
    root = ElementTree.fromstring(draw_svg([one, one]))
    space = "{http://www.w3.org/2000/svg}"
    tags = {element.tag.removeprefix(space) for element in root.iter()}
    assert tags <= {"svg", "title", "style", "defs", "marker", "path", "rect", "g", "text"}
    names = [text.text for text in root.iter(f"{space}text") if text.get("class") == "name"]
    assert names == [one.name, one.name]
    assert len([rect for rect in root.iter(f"{space}rect") if rect.get("class") == "box"]) == 2 * len(one.parts)
    shown = {line for p in one.parts for line in wrap(p.title, 30)}
    assert shown <= {text.text or "" for text in root.iter(f"{space}text")}


def test_svg_needs_nothing_from_elsewhere() -> None:
    text = draw_svg([picture(part("a"), part("b", "a"))])
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|<script|xlink:href|\bsrc=", text)
    assert "prefers-color-scheme:dark" in text


class _Text(HTMLParser):
    """What a browser would show of a label."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = ""
        self.tags: list[str] = []

    def handle_data(self, data: str) -> None:
        self.shown += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


@given(pictures())
def test_mermaid_has_names_in_quoted_labels_only(one: Picture) -> None:
    lines = draw_mermaid([one]).splitlines()
    label = r'"([^"#<>`;\\]|#\d+;|<br/>)*"'
    shapes = (
        r"flowchart TB",
        rf"  subgraph s0\[{label}\]",
        rf"    n0_\d+\[{label}\]:::[a-z-]+",
        r"    n0_\d+ --> n0_\d+",
        r"  end",
        r"  classDef [a-z-]+ fill:#[0-9a-f]{6},stroke:#[0-9a-f]{6},color:#000",
    )
    assert all(any(re.fullmatch(shape, line) for shape in shapes) for line in lines), lines
    for p, line in zip(one.parts, lines[2:], strict=False):
        reader = _Text()
        reader.feed(re.sub(r"#(\d+);", r"&#\1;", line.split('"')[1]))
        reader.close()
        assert reader.tags == ["br"] * len(reader.tags)
        assert reader.shown == "part" + "".join(wrap(p.title, 32))


@given(pictures())
def test_dot_has_names_in_quoted_labels_only(one: Picture) -> None:
    text = draw_dot([one])
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
    assert not set(re.findall(r"[A-Za-z0-9_]+", bare)) - {
        *("digraph", "sandbox", "graph", "node", "subgraph", "cluster_0", "label", "fillcolor", "color", "style"),
        *("fontname", "fontsize", "shape", "box", "11"),
        *(f"n0_{index}" for index in range(len(one.parts))),
    }


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_shows_the_names_as_they_are() -> None:
    parts = [PicturePart(f"p{index}", "part", title, "build") for index, title in enumerate(NASTY)]
    done = subprocess.run(["dot", "-Tsvg"], input=draw_dot([picture(*parts)]), capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    shown = {text.text for text in ElementTree.fromstring(done.stdout).iter("{http://www.w3.org/2000/svg}text")}
    wanted = {line for title in NASTY for line in wrap(title, 32)}
    assert {line.replace("\xa0", " ") for line in shown if line} >= wanted


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("short", ["short"]),
        ("two words", ["two", "words"]),
        ("", [""]),
        ("abcdefghij", ["abcd..."]),
        ("a b c d e f g h i", ["a b c d", "e f ..."]),
    ],
)
def test_wrap(text: str, lines: list[str]) -> None:
    assert wrap(text, 7) == lines
