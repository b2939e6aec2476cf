"""Keys change exactly when the content does."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError
from engine.project.digest import record
from engine.project.pieces import Piece
from engine.project.tree import ProjectTree
from engine.state.keys import content_key


def hash_tree(path: Path, leave_out: tuple[str, ...] = ()) -> str:
    with ProjectTree.open(path.parent) as tree:
        return tree.key(Piece(path.name, "/there", leave_out=leave_out))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name in ("a", "sub/b", "sub/deep/c"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "link").symlink_to("sub/b")
    (root / "empty").mkdir()
    return root


def test_a_key_is_short_hex_and_known() -> None:
    assert content_key("a", 1, b=[True, None]) == content_key("a", 1, b=(True, None))
    assert content_key("v1") == content_key("v1")
    assert len(content_key("v1")) == 32
    assert int(content_key("v1"), 16)


@given(st.lists(st.text(), min_size=2, max_size=3, unique=True))
def test_parts_do_not_run_together(parts: list[str]) -> None:
    assert content_key(*parts) != content_key("".join(parts))
    assert content_key(*parts) != content_key(*reversed(parts))
    assert content_key(*parts) != content_key(parts)


def test_the_order_of_names_does_not_matter_and_objects_are_refused() -> None:
    assert content_key(a=1, b={"x": 1, "y": 2}) == content_key(b={"y": 2, "x": 1}, a=1)
    with pytest.raises(TypeError):
        content_key(Path("/"))


def test_the_same_tree_elsewhere_has_the_same_key(tree: Path, tmp_path: Path) -> None:
    before = hash_tree(tree)
    os.utime(tree / "a", (1, 1))
    (tree / "a").chmod(0o600)
    assert hash_tree(tree) == before
    assert hash_tree(tree.rename(tmp_path / "elsewhere")) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "a").write_text("other"),
        lambda root: (root / "a").rename(root / "z"),
        lambda root: (root / "a").rename(root / "sub" / "a"),
        lambda root: (root / "a").chmod(0o755),
        lambda root: (root / "empty").rmdir(),
        lambda root: (root / "new").mkdir(),
        lambda root: ((root / "link").unlink(), (root / "link").symlink_to("a")),
        lambda root: ((root / "link").unlink(), (root / "link").write_text("sub/b")),
        lambda root: (root / "sub/deep/c").unlink(),
    ],
)
def test_every_change_changes_the_key(tree: Path, change: object) -> None:
    before = hash_tree(tree)
    change(tree)  # type: ignore[operator]
    assert hash_tree(tree) != before


def test_no_name_can_pass_for_anotherrecord(tmp_path: Path) -> None:
    assert record("f", "ab", b"c") != record("f", "a", b"bc")
    assert record("f", "a", b"") + record("f", "b", b"") != record("f", "af b", b"")


def test_one_file_has_a_key_of_its_own(tree: Path) -> None:
    before = hash_tree(tree / "a")
    (tree / "sub/b").write_text("other")
    assert hash_tree(tree / "a") == before
    assert hash_tree(tree / "sub/b") != before


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "sub/../../outside"])
def test_a_symlink_out_of_the_tree_is_refused(tree: Path, target: str) -> None:
    (tree / "sub/escape").symlink_to(f"../{target}" if not target.startswith("/") else target)
    with pytest.raises(EngineError, match="is a symlink out of"):
        hash_tree(tree)
    assert hash_tree(tree, ("sub/escape",))


def test_a_symlink_within_a_subdirectory_may_go_up(tree: Path) -> None:
    (tree / "sub/up").symlink_to("../a")
    assert hash_tree(tree)


def test_sockets_and_pipes_are_refused(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(EngineError, match="neither a file, a directory nor a symlink"):
        hash_tree(tree)
    (tree / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tree / "socket"))
    with pytest.raises(EngineError, match="neither a file"):
        hash_tree(tree)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="'gone' does not exist"):
        hash_tree(tmp_path / "gone")
