"""Opening beneath a directory, by the kernel's own call and component by component."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmm import beneath
from vmm.beneath import DIRECTORY, FILE, LinkInTheWay, open_beneath, parent_beneath


@pytest.fixture(params=["openat2", "component by component"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A descriptor of tmp_path/root, in which everything of these tests is."""
    if request.param == "openat2" and not beneath.has_openat2():
        pytest.skip("this kernel does not have openat2")
    monkeypatch.setattr(beneath, "has_openat2", lambda: request.param == "openat2")
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/a/b/file").write_text("inside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("outside")
    descriptor = os.open(tmp_path / "root", DIRECTORY)
    yield descriptor
    os.close(descriptor)


def read(descriptor: int) -> str:
    with os.fdopen(descriptor) as file:
        return file.read()


@pytest.mark.parametrize("path", ["a/b/file", "./a//b/./file"])
def test_a_file_is_opened(root: int, path: str) -> None:
    assert read(open_beneath(root, path, FILE)) == "inside"


@pytest.mark.parametrize("path", ["", ".", "./"])
def test_the_directory_itself(root: int, path: str) -> None:
    descriptor = open_beneath(root, path, DIRECTORY)
    assert os.path.sameopenfile(root, descriptor)
    os.close(descriptor)


@pytest.mark.parametrize(
    ("link", "target", "path", "component"),
    [
        ("a/b/link", "file", "a/b/link", "a/b/link"),
        ("x", "a", "x/b/file", "x"),
        ("a/x", "b", "a/x/file", "a/x"),
        ("x", "../outside", "x/file", "x"),
        ("x", "/", "x/etc/passwd", "x"),
        ("x", "/proc/self/cwd", "x/file", "x"),
        ("a/b/x", "nowhere", "a/b/x", "a/b/x"),
    ],
)
def test_no_link_is_followed_and_the_component_is_named(
    root: int, tmp_path: Path, link: str, target: str, path: str, component: str
) -> None:
    (tmp_path / "root" / link).symlink_to(target)
    with pytest.raises(LinkInTheWay) as caught:
        open_beneath(root, path, FILE)
    assert (caught.value.component, caught.value.target) == (component, target)


@pytest.mark.parametrize("path", ["..", "a/..", "a/../../outside/file", "/etc/passwd"])
def test_nothing_leads_out(root: int, path: str) -> None:
    for call in (lambda: open_beneath(root, path, FILE), lambda: parent_beneath(root, path)):
        with pytest.raises(OSError) as caught:
            os.close(int(call()))  # type: ignore[call-overload]
        assert caught.value.errno == errno.EXDEV


@pytest.mark.parametrize(
    ("path", "error"),
    [("gone", FileNotFoundError), ("a/gone/file", FileNotFoundError), ("a/b/file/x", NotADirectoryError)],
)
def test_what_is_not_there_is_said_as_by_the_system(root: int, path: str, error: type[OSError]) -> None:
    with pytest.raises(error) as caught:
        open_beneath(root, path, FILE)
    assert not isinstance(caught.value, LinkInTheWay)


def test_a_parent_asks_nothing_about_the_name(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/a/x").symlink_to("/")
    for path, name in (("a/x", "x"), ("a/gone", "gone"), ("a", "a"), (".", ".")):
        descriptor, found = parent_beneath(root, path)
        assert found == name
        os.close(descriptor)
    (tmp_path / "root/y").symlink_to("a")
    with pytest.raises(LinkInTheWay):
        parent_beneath(root, "y/b")


def test_no_descriptor_is_left(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/link").symlink_to("a")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for path in ("a/b/file", "link/b", "gone/x", "a/b/file/x"):
        with contextlib.suppress(OSError):
            os.close(open_beneath(root, path, FILE))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
