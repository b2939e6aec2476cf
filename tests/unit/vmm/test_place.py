"""Where a copy starts or ends: the user's links lead on, a guest's lead nowhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from vmm.beneath import LinkInTheWay, identity
from vmm.place import Last, Place, hold


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with `mount`, where a guest may write, and `mine`, where it may not."""
    for name in ("mount/sub/deep", "mine/dir", "victim/.ssh"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "mount/sub/file").touch()
    (tmp_path / "mine/file").touch()
    (tmp_path / "mine/link").symlink_to("dir")
    (tmp_path / "mine/to-file").symlink_to("file")
    (tmp_path / "mine/into").symlink_to("../mount/sub")
    (tmp_path / "mine/broken").symlink_to("nowhere")
    (tmp_path / "mine/loop").symlink_to("loop")
    (tmp_path / "mount/planted").symlink_to(tmp_path / "victim")
    (tmp_path / "mount/sub/planted").symlink_to("../../victim")
    (tmp_path / "mount/alias").symlink_to("sub")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def roots(host: Path) -> dict[tuple[int, int], str]:
    return {identity((host / "mount").stat()): "shop"}


def where(place: Place) -> str:
    return f"{Path(f'/proc/self/fd/{place.directory}').readlink()}:{place.name}"


@pytest.mark.parametrize(
    ("path", "last", "found"),
    [
        ("mine/file", "name", "mine:file"),
        ("mine/gone", "name", "mine:gone"),
        ("mine/link", "name", "mine:link"),
        ("mine/link", "directory", "mine/dir:"),
        ("mine/link/x", "name", "mine/dir:x"),
        ("mine/link/../file", "name", "mine:file"),
        ("mine/into/file", "name", "mount/sub:file"),
        ("mine/dir", "either", "mine/dir:"),
        ("mine/link", "either", "mine/dir:"),
        ("mine/into", "either", "mount/sub:"),
        ("mine/file", "either", "mine:file"),
        ("mine/to-file", "either", "mine:to-file"),
        ("mine/broken", "either", "mine:broken"),
        ("mine/loop", "either", "mine:loop"),
        ("mine/gone", "either", "mine:gone"),
        ("mine/dir/", "either", "mine/dir:"),
        ("mine/./dir/.", "either", "mine/dir:"),
        ("mount", "name", ":mount"),
        ("mount/sub", "either", "mount/sub:"),
        ("mount/planted", "name", "mount:planted"),  # what it is, is for the one who copies it: a link
        ("mount/sub/deep/..", "name", "mount/sub:"),
        ("mount/../mine/link", "either", "mine/dir:"),
        ("..", "name", "..:"),
    ],
)
def test_what_is_meant(host: Path, path: str, last: Last, found: str) -> None:
    with hold(path, roots(host), last) as place:
        directory, _, name = where(place).rpartition(":")
        expected, _, expected_name = found.rpartition(":")
        assert (directory, name) == (os.path.normpath(host / expected), expected_name)
    with hold(host / path, roots(host), last) as place:
        assert where(place).endswith(expected_name)


@pytest.mark.parametrize(
    ("path", "last", "component"),
    [
        ("mount/planted/.ssh", "name", "mount/planted"),
        ("mount/planted/.ssh/new", "either", "mount/planted"),
        ("mount/planted", "either", "mount/planted"),
        ("mount/planted/", "either", "mount/planted"),
        ("mount/planted/.", "directory", "mount/planted"),
        ("mount/alias/file", "name", "mount/alias"),
        ("mount/sub/planted/x", "name", "mount/sub/planted"),
        ("mine/into/planted/x", "name", "mount/sub/planted"),
        ("mine/into/planted", "either", "mount/sub/planted"),
    ],
)
def test_a_link_where_a_guest_may_write_is_refused(host: Path, path: str, last: Last, component: str) -> None:
    with pytest.raises(LinkInTheWay) as caught, hold(path, roots(host), last):
        pass
    assert (caught.value.component, caught.value.below) == (str(host / component), "shop")
    with hold(path, {}, last):
        pass  # anywhere else it is the user's own


def test_from_a_working_directory_in_the_mount(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(host / "mount/sub")
    with hold("../sub/file", roots(host), "name") as place:
        assert where(place) == f"{host}/mount/sub:file"
    with pytest.raises(LinkInTheWay), hold("planted/x", roots(host), "name"):
        pass


@pytest.mark.parametrize(
    ("path", "error"), [("gone/x", FileNotFoundError), ("mine/file/x", NotADirectoryError), ("mine/loop/x", OSError)]
)
def test_what_is_not_there(host: Path, path: str, error: type[OSError]) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(error) as caught, hold(path, roots(host), "name"):
        pass
    assert not isinstance(caught.value, LinkInTheWay)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_swap_between_the_look_and_the_opening(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The narrowest moment there is: it was seen to be a directory, and is a link when it is opened."""
    stat = os.stat

    def looked(path: Any, **options: Any) -> os.stat_result:
        status = stat(path, **options)
        if path == "deep" and not (host / "mount/sub/deep").is_symlink():
            (host / "mount/sub/deep").rename(host / "mount/away")
            (host / "mount/sub/deep").symlink_to(host / "victim")
        return status

    monkeypatch.setattr(os, "stat", looked)
    with pytest.raises(NotADirectoryError), hold("mount/sub/deep/.ssh", roots(host), "name"):
        pass
    assert (host / "mount/sub/deep").is_symlink()


def test_a_thread_that_swaps_a_parent_never_leads_out(host: Path, swapping: Any) -> None:
    (host / "mount/x").mkdir()
    inside = {identity((host / "mount/x").stat()), identity((host / "mount").stat())}
    with swapping(host / "mount/x", host / "victim") as goes_on:
        more = True
        while more:
            try:
                with hold("mount/x", roots(host), "either") as place:
                    assert identity(os.fstat(place.directory)) in inside
                more = goes_on(True)
            except OSError:
                more = goes_on(False)
