"""Which directories of a live mount can stay on the guest's own disk, on this host."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.workspaces.own_directories import why_not_local


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "packages" / "web" / "node_modules").mkdir(parents=True)
    (tmp_path / "private").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("packages")
    (tmp_path / "dangling").symlink_to("nowhere")
    return tmp_path


@pytest.mark.parametrize("path", ["node_modules", "packages/web/node_modules", "packages/web/target", "packages"])
def test_the_host_needs_what_is_above_it(source: Path, path: str) -> None:
    assert why_not_local(source, path) is None


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("file", "'file' is a file on this host"),
        ("file/x", "'file' is a file on this host"),
        ("link", "'link' is a link on this host"),
        ("dangling", "'dangling' is a link on this host"),
        ("link/web/node_modules", "'link' is a link on this host"),
        ("packages/app/node_modules", "lies in 'packages/app', which does not exist in "),
        ("private/build", "lies in 'private', which `hide` hides"),
    ],
)
def test_what_speaks_against_it_is_said(source: Path, path: str, why: str) -> None:
    problem = why_not_local(source, path, ["private/", "*.pem"])
    assert problem is not None and problem[0].startswith(why)


def test_a_hidden_directory_may_be_local(source: Path) -> None:
    """The host's is not seen either way."""
    assert why_not_local(source, "private", ["private/"]) is None
