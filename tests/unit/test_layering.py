"""Who may import whom. Read from the source, so that an import inside a function counts too."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sandboxfile", "vmm", "engine")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
# run by Python as processes of their own, never imported for what they print
PROGRAMS = (
    "engine/attacks/stage.py",
    "engine/clones/into_guest.py",
    "engine/clones/watcher.py",
    "vmm/empty_network.py",
    "engine/supervisor/__main__.py",
    "engine/supervisor/beginning.py",
    "engine/supervisor/events.py",
    "engine/supervisor/waker.py",
    "vmm/guard.py",
    "vmm/leash.py",
    "vmm/fileserver/main.py",
    "vmm/fileserver/server.py",
    "vmm/fileserver/stand_in.py",
    "sandboxfile/pages/schema.py",
    "sandboxfile/pages/reference.py",
)
# what stands in front of a process that is shut in: it starts in milliseconds, and loads nothing of anybody else
CONFINED = (
    *("vmm/fileserver/", "vmm/leash.py", "vmm/shut_in.py", "vmm/empty_network.py"),
    *("vmm/confine.py", "vmm/system_calls.py"),
)
GUESTD = "vmm.guest.guestd"
SHARED = (f"{GUESTD}.wire.", f"{GUESTD}.modes.")
# runs in the guest, too, sent there as text
ATTACKS = "engine.attacks.guest"
CONFINED_OWN = ("vmm.fileserver", "vmm.shut_in", "vmm.confine", "vmm.system_calls")
# what reads, writes and edits YAML
YAML = (
    *("sandboxfile/reading/parser.py", "sandboxfile/reading/source.py"),
    *("sandboxfile/writing/dump.py", "sandboxfile/writing/outline.py"),
)
# what reduces and layers a graph to draw it
DRAWN = "engine/drawing/picture.py"
NETWORK = {
    "aiohttp",
    "asyncio",
    "ftplib",
    "http",
    "httpx",
    "requests",
    "smtplib",
    "socket",
    "socketserver",
    "ssl",
    "subprocess",
    "urllib",
    "urllib3",
}


def imports(where: str, source: str) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            above = where.split("/")[: -node.level]
            yield node.lineno, ".".join([*above, *([node.module] if node.module else [])])
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


def guestd_complaints(where: str, source: str) -> Iterator[str]:
    """guestd runs in the guest from a folder of its own, where nothing else of ours is; the host reads its wire
    and its modes of terminals."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            level, names = 0, [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = where.split("/")[: -node.level] if node.level else []
            level, names = node.level, [".".join(filter(None, (*above, node.module, a.name))) for a in node.names]
        else:
            continue
        for name in names:
            in_guestd = f"{name}.".startswith(f"{GUESTD}.")
            if not where.startswith("vmm/guest/"):
                if in_guestd and not f"{name}.".startswith(SHARED):
                    yield f"{where}:{node.lineno}: of guestd the host imports wire and modes only, not {name}"
            elif level and not in_guestd:
                yield f"{where}:{node.lineno}: guestd runs where there is no {name}"
            elif not level and name.split(".")[0] not in sys.stdlib_module_names:
                yield f"{where}:{node.lineno}: guestd has the standard library and its own modules, by relative imports"


def complaints(where: str, source: str) -> Iterator[str]:
    """`where` is the path from the repository's root."""
    yield from guestd_complaints(where, source)
    yield from attack_complaints(where, source)
    package = where.split("/")[0]
    in_cli = where.startswith("engine/cli/")
    for line, module in imports(where, source):
        top = module.split(".")[0]
        if top in PACKAGES and top != package and package != "engine":
            yield f"{where}:{line}: {package} must not import {top}"
        if top == "click" and not in_cli:
            yield f"{where}:{line}: only engine/cli imports click"
        if top == "engine" and module.startswith("engine.cli") and not in_cli:
            yield f"{where}:{line}: nothing imports the command line"
        if top == "ruamel" and where not in YAML:
            yield f"{where}:{line}: ruamel only in {', '.join(YAML)}"
        if top == "networkx" and where != DRAWN:
            yield f"{where}:{line}: networkx only in {DRAWN}: every `up` would wait for it"
        if package == "sandboxfile" and top in NETWORK and module != "urllib.parse":
            yield f"{where}:{line}: sandboxfile is pure, it must not import {module}"
        if where.startswith(CONFINED) and top not in sys.stdlib_module_names and not is_own(module, source, line):
            yield f"{where}:{line}: a confined process has the standard library and its own modules only, not {module}"


def attack_complaints(where: str, source: str) -> Iterator[str]:
    if where.startswith("engine/attacks/guest/"):
        for line, module in imports(where, source):
            if module.split(".")[0] not in sys.stdlib_module_names and not module.startswith(f"{ATTACKS}."):
                yield f"{where}:{line}: the guest has its standard library and {ATTACKS}, not {module}"


def is_own(module: str, source: str, line: int) -> bool:
    """Whether it is a module of the confined processes; `from vmm import ...` is judged by what it takes."""
    if module != "vmm":
        return module.startswith(CONFINED_OWN)
    taken = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.lineno == line]
    return all(f"vmm.{alias.name}" in CONFINED_OWN for node in taken for alias in node.names) and bool(taken)


# In the guest, and where a system has no file without a name.
WITHOUT_GUARD = ("engine/clones/in_guest.py", "engine/gateway/authority.py")


def forbidden_calls(where: str, source: str) -> Iterator[str]:
    """Printing and ending the process are the command line's, and those of programs of their own. No process leaves a
    temporary file when it is killed."""
    is_program = where.startswith(("engine/cli/", "vmm/guest/", "engine/attacks/guest/")) or where in PROGRAMS
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        text = ast.unparse(node.func)
        if text in ("print", "sys.exit", "exit", "os._exit", "sys.stdout.write") and not is_program:
            yield f"{where}:{node.lineno}: {text} below engine/cli"
        if text.startswith("tempfile.") and text not in ("tempfile.gettempdir", "tempfile.TemporaryFile"):
            named = any(keyword.arg == "dir" for keyword in node.keywords)
            if not named and where not in WITHOUT_GUARD:
                yield f"{where}:{node.lineno}: {text} without `dir`: one that is killed leaves it (scratch_directory)"
        for keyword in node.keywords:
            if keyword.arg == "preexec_fn" or (keyword.arg == "shell" and ast.unparse(keyword.value) != "False"):
                yield f"{where}:{node.lineno}: {keyword.arg}"


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_layers(path: Path) -> None:
    assert list(complaints(name(path), path.read_text())) == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_calls(path: Path) -> None:
    assert list(forbidden_calls(name(path), path.read_text())) == []


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("sandboxfile/a.py", "import vmm.spec"),
        ("sandboxfile/a.py", "from engine import layout"),
        ("vmm/a.py", "import sandboxfile"),
        ("vmm/a.py", "def f():\n    from engine.errors import EngineError"),
        ("engine/a.py", "import click"),
        ("engine/a.py", "from engine.cli.main import main"),
        ("engine/a.py", "import ruamel.yaml"),
        ("sandboxfile/sections/model.py", "from ruamel.yaml import YAML"),
        ("vmm/a.py", "import networkx as nx"),
        ("engine/plan/graph.py", "import networkx"),
        ("sandboxfile/a.py", "from urllib.request import urlopen"),
        ("sandboxfile/a.py", "import requests"),
        ("vmm/guest/guestd/loop.py", "import click"),
        ("vmm/guest/guestd/loop.py", "from vmm.guest.guestd.wire import Frame"),
        ("vmm/guest/guestd/loop.py", "from vmm.errors import VmmError"),
        ("vmm/guest/guestd/loop.py", "from ...errors import VmmError"),
        ("vmm/channel/a.py", "from vmm.guest.guestd.loop import Loop"),
        ("vmm/channel/a.py", "from vmm.guest.guestd import wire, docker"),
        ("vmm/channel/a.py", "from vmm.guest import guestd"),
        ("vmm/channel/a.py", "from ..guest.guestd import process"),
        ("engine/guest/a.py", "import vmm.guest.guestd.docker"),
        ("engine/store.py", "from .cli import main"),
        ("vmm/fileserver/files.py", "import pydantic"),
        ("engine/attacks/guest/talk.py", "from engine.errors import EngineError"),
        ("vmm/fileserver/main.py", "from vmm.process import spawn"),
        ("vmm/fileserver/main.py", "from vmm import confine, virtiofs"),
        ("vmm/confine.py", "import vmm"),
        ("vmm/system_calls.py", "from vmm.errors import VmmError"),
    ],
)
def test_the_rules_catch(where: str, source: str) -> None:
    assert list(complaints(where, source))


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("engine/a.py", "print(1)"),
        ("engine/a.py", "import sys; sys.exit(1)"),
        ("vmm/a.py", "run(a, shell=True)"),
        ("vmm/a.py", "run(a, preexec_fn=f)"),
        ("engine/a.py", "with tempfile.TemporaryDirectory() as directory: pass"),
        ("engine/cli/a.py", "tempfile.mkdtemp(prefix='a')"),
    ],
)
def test_the_call_rules_catch(where: str, source: str) -> None:
    assert list(forbidden_calls(where, source))


def test_what_is_allowed() -> None:
    assert not list(complaints("engine/cli/main.py", "import click, vmm.spec, sandboxfile, engine.plan.graph"))
    assert not list(
        complaints("vmm/fileserver/main.py", "from vmm import confine, system_calls\nimport json, vmm.confine")
    )
    assert not list(complaints("vmm/channel/a.py", "from vmm import guest\nfrom vmm.guest.guestd.wire import Frame"))
    assert not list(complaints("vmm/guest/guestd/loop.py", "import http.client\nfrom .wire import Frame"))
    assert not list(complaints("sandboxfile/sections/endpoints.py", "from urllib.parse import urlsplit"))
    assert not list(complaints("sandboxfile/deep/a.py", "from . import b\nfrom ..model import Sandbox"))
    assert not list(forbidden_calls("engine/cli/main.py", "import sys; sys.exit(print())"))
    assert not list(forbidden_calls("engine/a.py", "tempfile.TemporaryDirectory(dir=scratch)"))
