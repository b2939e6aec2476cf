"""What is copied of a project: beneath it, as it was hashed, bounded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError
from engine.project import tree as project_tree
from engine.project.digest import TreeDigest
from engine.project.inputs import input_piece
from engine.project.pieces import Piece
from engine.project.tree import PathError, ProjectTree, opened
from vmm.walk import TreeChanged, TreeLimits


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    for name in ("web/Dockerfile", "web/src/a.py", "web/.env", "notes.txt", "b.txt", "src/x/y.py", "src/z.py", "src/k"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    return project


@pytest.fixture
def tree(project: Path) -> Iterator[ProjectTree]:
    with ProjectTree.open(project) as tree:
        yield tree


def names(tree: ProjectTree, piece: Piece) -> list[str]:
    return [found.name for found in tree.entries(piece, TreeDigest(piece.path)) if found.kind != "directory"]


def test_the_project_is_opened_without_links_and_is_the_one_that_was_meant(project: Path, tmp_path: Path) -> None:
    with ProjectTree.open(project) as tree:
        expected = tree.identity
        ProjectTree.open(project, expected).close()
        project.rename(tmp_path / "away")
        project.symlink_to("away")
        with pytest.raises(EngineError, match="cannot open the project"):
            ProjectTree.open(project, expected)
        project.unlink()
        project.mkdir()
        with pytest.raises(EngineError, match="another directory than `up` saw"):
            ProjectTree.open(project, expected)
        assert tree.kind("notes.txt") == "file", "what is open stays open"


def test_one_command_opens_it_once(project: Path, tmp_path: Path) -> None:
    tree = opened(project)
    project.rename(tmp_path / "away")
    project.mkdir()
    assert opened(project) is tree and tree.kind("web") == "directory"


def test_a_link_is_named_wherever_it_is(project: Path, tree: ProjectTree) -> None:
    (project / "out").symlink_to("/etc")
    (project / "web/in").symlink_to("src")
    for path, words in {
        "out": "'out' is a link (to /etc)",
        "out/passwd": "'out/passwd' leads through the link 'out' (to /etc)",
        "web/in/a.py": "'web/in/a.py' leads through the link 'web/in' (to src)",
    }.items():
        for ask in (tree.kind, lambda path: tree.read(path, 10), lambda path: tree.key(Piece(f"{path}/x", "/"))):
            if ask is not tree.kind and path == "out":
                continue
            with pytest.raises(PathError) as caught:
                ask(path)
            assert words.split(" (")[1] in caught.value.brief and "links are not followed" in (caught.value.hint or "")
        with pytest.raises(PathError) as caught:
            tree.kind(path)
        assert caught.value.brief == words


def test_a_link_in_what_is_copied_is_copied_as_one(project: Path, tree: ProjectTree) -> None:
    (project / "web/in").symlink_to("src/a.py")
    found = {one.name: one for one in tree.entries(Piece("web", "/web"), TreeDigest("web"))}
    assert (found["in"].kind, found["in"].link) == ("link", "src/a.py")
    (project / "web/out").symlink_to("../notes.txt")
    with pytest.raises(EngineError, match="web/out is a symlink out of web"):
        tree.key(Piece("web", "/web"))


@pytest.mark.parametrize("kind", ["fifo", "device", "directory"])
def test_only_regular_files_are_read(project: Path, tree: ProjectTree, kind: str) -> None:
    path = project / "web/.dockerignore"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(PathError):
        tree.key(Piece("web", "/web", ignores=("web/.dockerignore",)))


def test_the_first_ignore_file_that_is_there_decides(project: Path, tree: ProjectTree) -> None:
    (project / "web/.dockerignore").write_text("src\n")
    (project / "web/Dockerfile.prod").touch()
    keep = ("Dockerfile.prod", "Dockerfile.prod.dockerignore", ".dockerignore")
    piece = Piece("web", "/web", ignores=("web/Dockerfile.prod.dockerignore", "web/.dockerignore"), keep=keep)
    assert names(tree, piece) == [".dockerignore", ".env", "Dockerfile", "Dockerfile.prod"]
    before = tree.key(piece)
    (project / "web/Dockerfile.prod.dockerignore").write_text("*\n")
    assert names(tree, piece) == [".dockerignore", "Dockerfile.prod", "Dockerfile.prod.dockerignore"]
    assert tree.key(piece) != before


def test_what_is_sent_is_what_is_hashed(project: Path, tree: ProjectTree) -> None:
    """The reader gets other bytes than the first time, and the digest knows."""
    piece = Piece("web/Dockerfile", "/f")
    key = tree.key(piece)
    assert sent(tree, piece) == (b"web/Dockerfile", key)
    (project / "web/Dockerfile").write_text("EVIL")
    data, digest = sent(tree, piece)
    assert data == b"EVIL" and digest != key and digest == tree.key(piece)
    (project / "web/Dockerfile").chmod(0o4755)
    assert sent(tree, piece)[1] != digest
    modes = {found.name: found.mode for found in tree.entries(Piece("web", "/w"), TreeDigest("web"))}
    assert {modes["Dockerfile"], modes[""]} == {0o755} and modes[".env"] == 0o644, "only what the key knows of"


def sent(tree: ProjectTree, piece: Piece) -> tuple[bytes, str]:
    digest = TreeDigest(piece.path)
    data = b"".join(found.content.read() for found in tree.entries(piece, digest) if found.content)
    return data, digest.key()


def test_bytes_that_change_while_they_are_sent_are_hashed_as_they_were_sent(project: Path, tree: ProjectTree) -> None:
    big, evil = b"g" * (1 << 22), b"E" * (1 << 22)
    (project / "big").write_bytes(big)
    piece, digest = Piece("big", "/big"), TreeDigest("big")
    key = tree.key(piece)
    data = b""
    for found in tree.entries(piece, digest):
        assert found.content is not None
        data += found.content.read(10)
        (project / "big").write_bytes(evil)
        data += found.content.read()
    assert digest.key() != key
    (project / "big").write_bytes(data)
    assert digest.key() == tree.key(piece), "it is the key of exactly what was sent"


def test_trees_are_bounded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = os.open(project, os.O_RDONLY)
    with ProjectTree(project, descriptor, TreeLimits(5, 1000)) as tree:
        with pytest.raises(EngineError, match=r"'\.' cannot be copied: .* holds more than 5 files") as caught:
            tree.key(Piece(".", "/x"))
        assert ".dockerignore" in (caught.value.hint or "") and caught.value.exit_code == 2
        with (project / "disk.img").open("wb") as file:
            file.truncate(8 << 40)
        with pytest.raises(EngineError, match=r"'disk\.img' cannot be copied"):
            tree.key(Piece("disk.img", "/x"))
    assert TreeLimits(500_000, 4 << 30) == project_tree.LIMITS


def test_reading_is_tried_again(project: Path, tree: ProjectTree, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [TreeChanged("x"), TreeChanged("x")]
    real = project_tree.walk

    def flaky(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*args)

    monkeypatch.setattr(project_tree, "walk", flaky)
    assert tree.key(Piece("web", "/x"))
    failures += [TreeChanged("x")] * 3
    with pytest.raises(EngineError, match="web/x keeps changing"):
        tree.key(Piece("web", "/x"))


@pytest.mark.parametrize(
    ("name", "target", "found"),
    [
        ("notes.txt", "/w/notes.txt", [""]),
        ("src", "/w/src", ["k", "x/y.py", "z.py"]),
        (
            ".",
            "/w",
            ["b.txt", "notes.txt", "src/k", "src/x/y.py", "src/z.py", "web/.env", "web/Dockerfile", "web/src/a.py"],
        ),
        ("*.txt", "/w", ["b.txt", "notes.txt"]),
        ("src/**/*.py", "/w/src", ["x/y.py", "z.py"]),
        ("**/*.py", "/w", ["src/x/y.py", "src/z.py", "web/src/a.py"]),
        ("s*", "/w", ["src/k", "src/x/y.py", "src/z.py"]),
        ("*/src/?.py", "/w", ["web/src/a.py"]),
        ("[a-c].txt", "/w", ["b.txt"]),
        ("*.nothing", "/w", []),
    ],
)
def test_inputs_and_their_patterns(tree: ProjectTree, name: str, target: str, found: list[str]) -> None:
    piece = input_piece(tree, name, "/w")
    assert (piece.target, names(tree, piece)) == (target, found)
    assert tree.matches(piece) == bool(found)


def test_a_name_that_exists_is_no_pattern(project: Path, tree: ProjectTree) -> None:
    (project / "[id].tsx").touch()
    (project / "i.tsx").touch()
    assert input_piece(tree, "[id].tsx", "/w") == Piece("[id].tsx", "/w/[id].tsx")


def test_keys_of_patterns_follow_what_matches(project: Path, tree: ProjectTree) -> None:
    piece = input_piece(tree, "*.txt", "/w")
    before = tree.key(piece)
    (project / "c.md").touch()
    (project / "src/new.txt").touch()
    assert tree.key(piece) == before
    (project / "b.txt").rename(project / "c.txt")
    assert tree.key(piece) != before


def test_a_pattern_looks_only_where_something_can_match(project: Path, tree: ProjectTree) -> None:
    (project / "src/closed").mkdir(mode=0)
    os.mkfifo(project / "web/pipe")
    assert names(tree, input_piece(tree, "*.txt", "/w")) == ["b.txt", "notes.txt"]
    assert names(tree, input_piece(tree, "s*/z.py", "/w")) == ["src/z.py"]


def test_a_swapped_parent_never_leads_out(project: Path, tmp_path: Path, tree: ProjectTree, swapping: Any) -> None:
    """The guest's attack: a parent of the context is a link to the user's home at the moment of a look-up."""
    (tmp_path / "victim/.ssh").mkdir(parents=True)
    (tmp_path / "victim/.ssh/id").write_text("SECRET")
    (project / "x/.ssh").mkdir(parents=True)
    (project / "x/.ssh/id").write_text("mine")
    with swapping(project / "x", tmp_path / "victim") as goes_on:
        more = True
        while more:
            try:
                data, _ = sent(tree, Piece("x/.ssh", "/x"))
            except (EngineError, TreeChanged):
                more = goes_on(False)
                continue
            assert data == b"mine"
            more = goes_on(True)
