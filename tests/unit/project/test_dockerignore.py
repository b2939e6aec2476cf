"""What a .dockerignore leaves out, and what it may not do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.project.dockerignore import MAX_BYTES, MAX_PATTERNS, IgnoreFileError, match_dockerignore, parse_dockerignore
from vmm.walk import walk


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name in ("a", "sub/b", "sub/deep/c"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "link").symlink_to("sub/b")
    (root / "empty").mkdir()
    return root


def list_tree(tree: Path, lines: Sequence[str], keep: Sequence[str] = ()) -> list[str]:
    descriptor = os.open(tree, os.O_RDONLY)
    try:
        return [found.name for found in walk(descriptor, ".", match_dockerignore(lines, keep)) if found.name]
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ([], ["a", "empty", "link", "sub", "sub/b", "sub/deep", "sub/deep/c"]),
        (["# a", "", "  "], ["a", "empty", "link", "sub", "sub/b", "sub/deep", "sub/deep/c"]),
        (["sub"], ["a", "empty", "link"]),
        (["/sub/", "./empty"], ["a", "link"]),
        (["b"], ["a", "empty", "link", "sub", "sub/b", "sub/deep", "sub/deep/c"]),  # anchored, unlike git
        (["**/b", "*/deep"], ["a", "empty", "link", "sub"]),
        (["sub", "!sub/deep/c"], ["a", "empty", "link", "sub", "sub/deep", "sub/deep/c"]),
        (["*", "!link"], ["link"]),
        (["*", "!sub/*/c"], ["sub", "sub/deep", "sub/deep/c"]),
        (["*", "!sub/deep"], ["sub", "sub/deep", "sub/deep/c"]),
        (["!sub/b", "sub"], ["a", "empty", "link"]),  # the last one that matches decides
    ],
)
def test_the_rules(tree: Path, lines: list[str], left: list[str]) -> None:
    assert list_tree(tree, lines) == left


def test_what_is_kept_is_kept(tree: Path) -> None:
    (tree / "Dockerfile[1]").touch()
    (tree / ".dockerignore").touch()
    assert list_tree(tree, ["*"], (".dockerignore", "Dockerfile[1]")) == [".dockerignore", "Dockerfile[1]"]
    assert list_tree(tree, ["*"], ("sub/deep/c",)) == ["sub", "sub/deep", "sub/deep/c"]
    assert list_tree(tree, ["sub", "!sub/b"], ("sub/deep/c",))[-4:] == ["sub", "sub/b", "sub/deep", "sub/deep/c"]


@pytest.mark.parametrize("bad", ["[", "a/[b", "[z-a]", "a\\"])
def test_a_bad_pattern_has_its_line(bad: str) -> None:
    with pytest.raises(IgnoreFileError) as caught:
        parse_dockerignore(f"# one\nfine\n\n{bad}\n[\n".encode(), "web/.dockerignore")
    assert (caught.value.file, caught.value.line, caught.value.text) == ("web/.dockerignore", 4, bad)
    assert caught.value.brief.startswith("web/.dockerignore:4: ")


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"a" * (MAX_BYTES + 1), 0, "larger than 1024 KiB"),
        (b"a\nb\xff\n", 2, "not UTF-8"),
        (b"a\n" * (MAX_PATTERNS + 1), MAX_PATTERNS + 1, "more than 10,000 patterns"),
    ],
)
def test_bounds(content: bytes, line: int, words: str) -> None:
    with pytest.raises(IgnoreFileError, match=words) as caught:
        parse_dockerignore(content, ".dockerignore")
    assert caught.value.line == line


def test_what_editors_write_is_read() -> None:
    assert parse_dockerignore("\ufeffa\r\n# x\r\n\r\n b \r\n".encode(), "x") == ["a", " b "]
