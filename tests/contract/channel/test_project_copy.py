"""Pieces of a project on their way through a real channel: what arrives, and what is refused."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError
from engine.project.inputs import input_piece
from engine.project.pieces import Piece
from engine.project.sending import put_piece
from engine.project.tree import ContentChanged, ProjectTree

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the guest's tar runs as root")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    for name in ("src/a.py", "src/in/b.py", "src/in/c.txt", ".env", "node_modules/x", "Dockerfile.prod", "n.txt"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    (project / "src/link").symlink_to("a.py")
    return project


@pytest.fixture
def tree(project: Path) -> Iterator[ProjectTree]:
    with ProjectTree.open(project) as tree:
        yield tree


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    (tmp_path / "guest/work").mkdir(parents=True)
    return tmp_path / "guest"


def keyed(tree: ProjectTree, piece: Piece) -> Piece:
    return replace(piece, key=tree.key(piece))


def put(harness: Any, tree: ProjectTree, *pieces: Piece) -> None:
    async def scenario() -> None:
        async with harness.start_client() as (_, client):
            for piece in pieces:
                await put_piece(client, tree, piece)

    asyncio.run(scenario())


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() or path.is_symlink())


def test_what_dockerignore_leaves_out_does_not_enter_the_guest(
    harness: Any, project: Path, tree: ProjectTree, guest: Path
) -> None:
    (project / ".dockerignore").write_text("*\n!src\n**/*.txt\n")
    keep = ("Dockerfile.prod", ".dockerignore")
    put(harness, tree, keyed(tree, Piece(".", str(guest / "web"), ignores=(".dockerignore",), keep=keep)))
    assert files(guest / "web") == [".dockerignore", "Dockerfile.prod", "src/a.py", "src/in/b.py", "src/link"]
    assert (guest / "web/src/link").readlink() == Path("a.py")
    assert {path.lstat().st_uid for path in (guest / "web").rglob("*")} == {1000}


def test_inputs_land_where_they_are_in_the_project_however_often(harness: Any, tree: ProjectTree, guest: Path) -> None:
    work = str(guest / "work")
    pieces = [keyed(tree, input_piece(tree, name, work)) for name in ("src", "src", "*.txt", "src/**/*.py")]
    put(harness, tree, *pieces)
    assert files(guest / "work") == ["n.txt", "src/a.py", "src/in/b.py", "src/in/c.txt", "src/link"]
    put(harness, tree, keyed(tree, input_piece(tree, ".", work)))
    assert "project" not in os.listdir(guest / "work") and ".env" in files(guest / "work")  # noqa: PTH208


def test_other_bytes_than_the_key_says_are_told(harness: Any, project: Path, tree: ProjectTree, guest: Path) -> None:
    piece = keyed(tree, Piece("src", str(guest / "src")))
    (project / "src/a.py").write_text("EVIL")
    with pytest.raises(ContentChanged, match="src changed while it was copied"):
        put(harness, tree, piece)


@pytest.mark.parametrize("path", ["src", "src/in"])
def test_a_parent_that_became_a_link_leads_nowhere(
    harness: Any, project: Path, tree: ProjectTree, guest: Path, tmp_path: Path, path: str
) -> None:
    piece = keyed(tree, Piece(path, str(guest / "there")))
    (tmp_path / "victim/in").mkdir(parents=True)
    (tmp_path / "victim/in/key").write_text("SECRET")
    (project / "src").rename(project / "real")
    (project / "src").symlink_to(tmp_path / "victim")
    with pytest.raises(EngineError, match="'src' "):
        put(harness, tree, piece)
    assert not (guest / "there").exists()


def test_a_copy_that_is_given_up_ends_soon(harness: Any, project: Path, tree: ProjectTree, guest: Path) -> None:
    """It does not read what is left of a large tree: nobody gets it."""
    for number in range(200):
        with (project / f"src/{number}").open("wb") as file:
            file.truncate(4 << 20)
    piece, read = keyed(tree, Piece("src", str(guest / "src"))), []
    entries = tree.entries

    def counted(piece: Piece, digest: Any) -> Any:
        for found in entries(piece, digest):
            read.append(found.name)
            yield found

    tree.entries = counted  # type: ignore[method-assign]

    async def scenario() -> None:
        async with harness.start_client() as (_, client):
            copying = asyncio.create_task(put_piece(client, tree, piece))
            await harness.wait_until(lambda: len(read) > 5)
            copying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await copying

    asyncio.run(scenario())
    assert len(read) < 200
