"""The house: which room stands above which. An import leads down, never up and never around.

A room is a folder of one of the three packages, or a module beside its folders. Read from the source, so that an import
inside a function counts, and one for types only.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("engine", "sandboxfile", "vmm")

# From the top floor down. Rooms of one floor do not know each other.
FLOORS = (
    "engine.cli",
    "engine.api",
    "engine.drawing engine.lifecycle",
    "engine.build engine.trust",
    "engine.plan engine.resolve engine.supervisor",
    "engine.cache engine.guest engine.starter",
    "engine.clones engine.project engine.secrets",
    "engine.agents engine.recall",
    "engine.state",
    "engine.acp engine.attacks engine.files engine.gateway engine.resources engine.ssh",
    "engine.decoding engine.errors engine.report engine.scarcity engine.workspaces",
    "sandboxfile sandboxfile.pages",
    "sandboxfile.load",
    "sandboxfile.checks",
    "sandboxfile.presets",
    "sandboxfile.compose sandboxfile.writing",
    "sandboxfile.reading sandboxfile.sections",
    "sandboxfile.diagnostics",
    "sandboxfile.names sandboxfile.positions sandboxfile.quantities sandboxfile.windows",
    "vmm.forking vmm.suspension",
    "vmm.apart vmm.snapshot",
    "vmm.machine",
    "vmm.carrier vmm.channel vmm.console vmm.disk vmm.private_memory vmm.virtiofs",
    "vmm.empty_network vmm.fileserver vmm.memory vmm.place vmm.process vmm.qemu_args vmm.qmp vmm.rotated_log"
    " vmm.unix_socket vmm.walk",
    "vmm.jail vmm.leash",
    "vmm.processor_share vmm.qcow2 vmm.shut_in vmm.tools",
    "vmm.beneath vmm.confine vmm.connection vmm.environment vmm.errors vmm.exchange vmm.guest vmm.last_words vmm.guard"
    " vmm.lines vmm.private vmm.session vmm.snapshot_files vmm.child_watcher vmm.spec vmm.system_calls",
)
# They start with every sandbox, and serve a guest: the language of files is none of their business.
WITHOUT_LANGUAGE = (
    "engine.supervisor",
    "engine.guest",
    "engine.gateway",
    "engine.attacks",
    "engine.cache",
    "engine.clones",
    "engine.state",
    "engine.project",
    "engine.workspaces",
    "engine.report",
)
Sources = Mapping[str, str]  # module -> its text; a package's is that of its __init__
Arrows = dict[str, set[str]]


def read_sources() -> Sources:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path.read_text()
    return found


def arrows_of(sources: Sources) -> Arrows:
    """Which module imports which, of those that there are."""
    folders = {name.rpartition(".")[0] for name in sources}
    return {
        name: {target for target in _imported(name, text, name in folders, sources) if target != name}
        for name, text in sources.items()
    }


def _imported(name: str, text: str, is_folder: bool, sources: Sources) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in sources)
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")
            if node.level:
                above = above[: len(above) - node.level + is_folder]
            base = ".".join([*(above if node.level else []), *([node.module] if node.module else [])])
            for alias in node.names:
                target = f"{base}.{alias.name}" if f"{base}.{alias.name}" in sources else base
                if target in sources:
                    yield target


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def circles(arrows: Arrows) -> list[str]:
    """One circle, as the modules on the way around; nothing where there is none."""
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def complaints(arrows: Arrows, floors: Mapping[str, int]) -> Iterator[str]:
    """Arrows between rooms that do not lead down."""
    for module, targets in sorted(arrows.items()):
        for target in sorted(targets):
            above, below = room_of(module), room_of(target)
            if above == below or target in PACKAGES or module.split(".")[0] != target.split(".")[0]:
                continue
            if floors[above] >= floors[below]:
                yield f"{module} -> {target}: {above} does not stand above {below}"


FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor.split()}
SOURCES = read_sources()
ARROWS = arrows_of(SOURCES)


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(module) for module in SOURCES} - {"engine", "vmm"}
    assert rooms == set(FLOOR_OF)


def test_no_circle() -> None:
    assert circles(ARROWS) == []


def test_no_arrow_up() -> None:
    assert list(complaints(ARROWS, FLOOR_OF)) == []


@pytest.mark.parametrize("room", WITHOUT_LANGUAGE)
def test_it_knows_no_sandboxfile(room: str) -> None:
    known = {f"{module} -> {target}" for module, targets in ARROWS.items() for target in targets}
    assert [arrow for arrow in known if arrow.startswith(f"{room}.") and "-> sandboxfile" in arrow] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import engine.b.two", "engine.b.two"),
        ("from engine.b import two", "engine.b.two"),
        ("from engine.b.two import name", "engine.b.two"),
        ("from . import two", "engine.a.two"),
        ("from .two import name", "engine.a.two"),
        ("from ..b import two", "engine.b.two"),
        ("def f():\n    from engine.b.two import name", "engine.b.two"),
        ("if TYPE_CHECKING:\n    from engine.b.two import name", "engine.b.two"),
        ("import os\nfrom pathlib import Path", None),
    ],
)
def test_how_imports_are_read(text: str, expected: str | None) -> None:
    sources = {"engine.a": "", "engine.a.one": text, "engine.a.two": "", "engine.b": "", "engine.b.two": ""}
    assert arrows_of(sources)["engine.a.one"] == ({expected} if expected else set())


def test_the_rules_catch() -> None:
    sources = {"engine.a.one": "from engine.b import two", "engine.b": "", "engine.b.two": "import engine.a.one"}
    arrows = arrows_of(sources)
    assert set(circles(arrows)) == {"engine.a.one", "engine.b.two"}
    assert list(complaints(arrows, {"engine.a": 0, "engine.b": 1})) == [
        "engine.b.two -> engine.a.one: engine.b does not stand above engine.a"
    ]
