"""Everything in a directory, whatever is done to it meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vmm.beneath import DIRECTORY
from vmm.walk import MAX_DEPTH, Found, TooLarge, TreeChanged, TreeLimits, walk


@pytest.fixture
def base(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, DIRECTORY)
    yield descriptor
    os.close(descriptor)


def test_parents_first_in_byte_order_with_what_is_in_them(base: int, tmp_path: Path) -> None:
    (tmp_path / "t/sub").mkdir(parents=True)
    (tmp_path / "t/sub.x").write_text("abc")
    (tmp_path / "t/sub/in").write_bytes(b"\0" * 1000)
    (tmp_path / "t/link").symlink_to("sub")
    (tmp_path / "t" / os.fsdecode(b"\xff")).touch()
    os.mkfifo(tmp_path / "t/pipe")
    seen = []
    for found in walk(base, "t"):
        content = found.content.read() if found.content else None
        seen.append((found.name, found.kind, found.link, content))
    assert seen == [
        ("", "directory", "", None),
        ("link", "link", "sub", None),
        ("pipe", "other", "", None),
        ("sub", "directory", "", None),
        ("sub/in", "file", "", b"\0" * 1000),
        ("sub.x", "file", "", b"abc"),
        (os.fsdecode(b"\xff"), "file", "", b""),
    ]


def test_a_file_or_a_link_alone(base: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "l").symlink_to("f")
    assert [(found.name, found.kind, found.size) for found in walk(base, "f")] == [("", "file", 1)]
    assert [(found.name, found.kind, found.link) for found in walk(base, "l")] == [("", "link", "f")]
    with pytest.raises(FileNotFoundError):
        next(walk(base, "gone"))


def test_what_is_left_out_is_not_touched(base: int, tmp_path: Path) -> None:
    (tmp_path / "t/out/deep").mkdir(parents=True)
    (tmp_path / "t/held/in").mkdir(parents=True)
    (tmp_path / "t/held/out").mkdir()
    (tmp_path / "t/empty/out").mkdir(parents=True)
    asked = []

    def leave_out(name: str, with_all_below: bool) -> bool:
        asked.append(name)
        return "out" in name or (not with_all_below and name in ("held", "empty"))

    assert [found.name for found in walk(base, "t", leave_out)] == ["", "held", "held/in"]
    assert "out/deep" not in asked


@pytest.mark.parametrize(
    ("limits", "words"), [(TreeLimits(3, 100), "more than 3 files"), (TreeLimits(9, 2), "of files")]
)
def test_limits(base: int, tmp_path: Path, limits: TreeLimits, words: str) -> None:
    (tmp_path / "t/d").mkdir(parents=True)
    for name in ("a", "b", "d/c"):
        (tmp_path / "t" / name).write_text("x")
    with pytest.raises(TooLarge, match=words):
        list(walk(base, "t", limits=limits))
    assert len(list(walk(base, "t", limits=TreeLimits(4, 3)))) == 5


def test_a_sparse_file_is_not_read_to_be_refused(base: int, tmp_path: Path) -> None:
    with (tmp_path / "disk").open("wb") as file:
        file.truncate(8 << 40)
    with pytest.raises(TooLarge):
        list(walk(base, "disk", limits=TreeLimits(10, 1 << 30)))


def test_the_depth_and_with_it_the_descriptors_are_bounded(base: int, tmp_path: Path) -> None:
    current = os.open(tmp_path, DIRECTORY)
    for _ in range(MAX_DEPTH + 10):
        os.mkdir("d", dir_fd=current)
        inner = os.open("d", DIRECTORY, dir_fd=current)
        os.close(current)
        current = inner
    os.close(current)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(TooLarge, match="deeper than 256"):
        list(walk(base, "d"))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_directory_that_is_swapped_while_it_is_read_stays_the_one_that_was_entered(base: int, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/b").write_text("secret")
    (tmp_path / "t/d").mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / "t/d" / name).write_text("mine")
    read = []
    for found in walk(base, "t"):
        if found.content:
            read.append(found.content.read())
        if found.name == "d/a":
            (tmp_path / "t").rename(tmp_path / "away")
            (tmp_path / "t").mkdir()
            (tmp_path / "t/d").symlink_to("../outside")
    assert read == [b"mine", b"mine"]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_what_changes_between_the_list_and_its_turn(
    base: int, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    (tmp_path / "t").mkdir()
    for name in ("a", "z"):
        (tmp_path / "t" / name).write_text("mine")
    found: list[Found] = []
    try:
        for one in walk(base, "t"):
            found.append(one)
            if one.name == "a":
                change(tmp_path / "t/z")
    except TreeChanged as error:
        assert error.filename == "z"
    else:  # as what it is by then
        assert found[-1].kind in ("link", "directory")
    assert all(one.name != "z" or one.content is None for one in found)


@pytest.mark.parametrize("what", ["directory", "file"])
def test_a_swap_between_the_look_and_the_opening(
    base: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The narrowest moment there is: it was seen to be no link, and is one when it is opened."""
    (tmp_path / "victim/x").mkdir(parents=True)
    (tmp_path / "victim/x/key").write_text("SECRET")
    (tmp_path / "t").mkdir()
    swapped = tmp_path / "t/x"
    if what == "directory":
        swapped.mkdir()
    else:
        swapped.touch()
    stat = os.stat

    def looked(path: Any, **options: Any) -> os.stat_result:
        status = stat(path, **options)
        if path == "x" and not swapped.is_symlink():
            swapped.rename(tmp_path / "away")
            swapped.symlink_to(tmp_path / "victim/x" / ("" if what == "directory" else "key"))
        return status

    monkeypatch.setattr(os, "stat", looked)
    with pytest.raises(TreeChanged) as caught:
        for found in walk(base, "t"):
            assert found.content is None or found.content.read() != b"SECRET"
    assert caught.value.filename == "x" and swapped.is_symlink()


def test_a_file_that_is_cut_while_it_is_read(base: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * (1 << 20))
    with pytest.raises(TreeChanged):
        for found in walk(base, "f"):
            assert found.content is not None
            found.content.read(10)
            os.truncate(tmp_path / "f", 100)
            found.content.read()


def test_a_file_that_grows_ends_where_it_ended(base: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"mine")
    for found in walk(base, "f"):
        assert found.content is not None
        with (tmp_path / "f").open("ab") as file:
            file.write(b"more")
        assert found.content.read() + found.content.read() == b"mine"


def test_a_thread_that_swaps_all_the_time_never_leads_it_astray(base: int, tmp_path: Path, swapping: Any) -> None:
    """The attack of a guest in a live mount, without its guest."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/key").write_text("SECRET")
    for parent in ("t/x", "t/y"):
        (tmp_path / parent).mkdir(parents=True)
        (tmp_path / parent / "key").write_text("mine")
    with swapping(tmp_path / "t/x", tmp_path / "victim") as goes_on:
        more = True
        while more:
            try:
                found = [(one.kind, one.content and one.content.read()) for one in walk(base, "t")]
            except TreeChanged:
                more = goes_on(False)
                continue
            assert ("file", b"SECRET") not in found
            more = goes_on(("link", None) not in found)
