"""Where mounts lead, and what in them is kept from the guest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from engine.resolve.mounts_and_ports import wanted_mounts
from engine.resolve.paths import places_on_the_way, protected_in, real_source
from engine.workspaces.mount_point import MountPoint
from sandboxfile import Inputs, Loaded, load

Load = Callable[..., Loaded]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path.resolve() / "work" / "shop"
    project.mkdir(parents=True)
    return project


@pytest.fixture
def read(project: Path) -> Load:
    def read(text: str, *files: Path, environment: Mapping[str, str] | None = None) -> Loaded:
        (project / "Sandboxfile.yaml").write_text(f'version: "1"\n{text}')
        return load(project / "Sandboxfile.yaml", Inputs(files=files, environment=environment or {}))

    return read


MAIN = ("Sandboxfile.local.yaml", "Sandboxfile.local.yml", "Sandboxfile.yaml")


def test_the_files_that_lie_in_the_directory(read: Load, project: Path, tmp_path: Path) -> None:
    (project / "deep").mkdir()
    for over in (project / "ci.yaml", project / "deep" / "more.yaml", tmp_path / "elsewhere.yaml"):
        over.write_text("packages: []\n")
    loaded = read("", project / "ci.yaml", project / "deep" / ".." / "deep" / "more.yaml", tmp_path / "elsewhere.yaml")
    assert protected_in(loaded, project) == (*MAIN, "ci.yaml", "deep/more.yaml")
    below = tuple(f"shop/{name}" for name in (*MAIN, "ci.yaml", "deep/more.yaml"))
    assert protected_in(loaded, project.parent) == below
    assert protected_in(loaded, project / "deep") == ("more.yaml",)
    assert protected_in(loaded, project / "dee") == ()


def test_variables_of_a_file(read: Load, project: Path) -> None:
    (project / ".env").write_text("MEMORY=1GiB\n")
    text = "machine: {memory: '${MEMORY}'}\n"
    assert protected_in(read(text), project) == (".env", *MAIN)
    assert protected_in(read(text, environment={"MEMORY": "1GiB"}), project) == MAIN
    assert protected_in(read("packages: [git]\n"), project) == MAIN


def test_of_a_link_both_ends(read: Load, project: Path, tmp_path: Path) -> None:
    (project / "files").mkdir()
    (project / "files" / "one.yaml").write_text("packages: []\n")
    (tmp_path / "out.yaml").write_text("packages: []\n")
    (project / "link.yaml").symlink_to("files/one.yaml")
    (project / "out.yaml").symlink_to(tmp_path / "out.yaml")
    (project / "way").symlink_to("files")
    loaded = read("", project / "link.yaml", project / "out.yaml", project / "way" / "one.yaml")
    assert protected_in(loaded, project) == (*MAIN, "files/one.yaml", "link.yaml", "out.yaml", "way")


def test_of_links_to_links_every_one(read: Load, project: Path, tmp_path: Path) -> None:
    """The middle of a chain is as good as its end: who replaces it says what the file is."""
    (project / "conf").mkdir()
    (project / "conf" / "real.yaml").write_text("packages: []\n")
    (project / "a.yaml").symlink_to("b.yaml")
    (project / "b.yaml").symlink_to("here/real.yaml")
    (project / "here").symlink_to(project / "there")
    (project / "there").symlink_to("./../shop/conf")
    loaded = read("", project / "a.yaml")
    assert protected_in(loaded, project) == (*MAIN, "a.yaml", "b.yaml", "conf/real.yaml", "here", "there")
    (project / "round").symlink_to("round")
    assert len(list(places_on_the_way(project / "round"))) <= 41


def test_what_was_shown_is_what_is_mounted(read: Load, project: Path) -> None:
    for name in ("one", "two"):
        (project / name).mkdir()
    (project / "link").symlink_to("one")
    plain = "protect: false"
    loaded = read(
        f"mounts: [{{source: ./link, target: /a, {plain}}}, {{source: ., target: /b, {plain}}}, '..:/c:ro']\n"
    )
    shown = real_source(project, "./link")
    (project / "link").unlink()
    (project / "link").symlink_to("two")
    assert wanted_mounts(loaded) == (
        MountPoint(str(shown), "/a", False),
        MountPoint(str(project), "/b", False, MAIN),
        MountPoint(str(project.parent), "/c", True),
    )
    assert shown == project / "one"
