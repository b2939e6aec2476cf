"""Files that nobody has named stay in the project, whatever links it has; nothing of what is outside shows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxfile import Inputs, Loaded, SandboxfileError, load
from sandboxfile.reading.regular_file import LeadsOutError, read_within, steps_to

HEAD = 'version: "1"\n'
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path.resolve() / "project"
    (project / "conf").mkdir(parents=True)
    (project.parent / "id_rsa").write_text(KEY)
    (project / "Sandboxfile.yaml").write_text(HEAD)
    return project


def refusal(path: Path, *files: Path) -> str:
    with pytest.raises(SandboxfileError) as caught:
        load(path, Inputs(files=files))
    assert "hunter2" not in str(caught.value) and "BEGIN" not in str(caught.value)
    return str(caught.value)


def points(path: Path, target: str | Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


# Ways from the name `file` of the project to the key beside it: (links, the one that leads out).
WAYS: dict[str, tuple[dict[str, str], str]] = {
    "relative": ({"file": "../id_rsa"}, "it is a link"),
    "absolute": ({"file": "{outside}/id_rsa"}, "it is a link"),
    "by another link": ({"file": "conf/two", "conf/two": "../../id_rsa"}, "the link conf/two"),
    "by a directory": ({"file": "dir/id_rsa", "dir": ".."}, "the link dir"),
    "by a directory behind a link": ({"file": "a/id_rsa", "a": "b", "b": "conf/../.."}, "the link b"),
    "out and in again": ({"file": "../project/conf/x"}, "it is a link"),
    "to a device": ({"file": "/dev/zero"}, "it is a link"),
    "to the environment": ({"file": "/proc/self/environ"}, "it is a link"),
    "to a descriptor": ({"file": "/proc/self/fd/0"}, "it is a link"),
}


@pytest.mark.parametrize("name", ["Sandboxfile.yaml", "Sandboxfile.local.yaml", ".env", "compose.yaml", "common.yaml"])
@pytest.mark.parametrize("way", WAYS)
def test_what_leads_out_is_not_read(project: Path, way: str, name: str) -> None:
    (project / "conf/x").write_text("x: 1\n")
    (project / "Sandboxfile.yaml").write_text(
        HEAD + "agent: {command: [run], env: {A: '${B:-}'}}\n"
        "services: {include: compose.yaml, web: {extends: {file: common.yaml, service: a}}}\n"
    )
    for other in ("compose.yaml", "common.yaml"):
        (project / other).write_text("services: {a: {image: a}}\n")
    links, culprit = WAYS[way]
    for link, target in links.items():
        points(project / (name if link == "file" else link), target.format(outside=project.parent))
    said = refusal(project / "Sandboxfile.yaml")
    assert culprit in said and "leads out of the project, to /" in said
    if way in ("relative", "absolute", "by another link"):
        assert f"leads out of the project, to {project.parent}/id_rsa" in said


@pytest.mark.parametrize("name", ["Sandboxfile.yaml", "Sandboxfile.local.yaml", "compose.yaml"])
@pytest.mark.parametrize(
    "target", ["conf/real.yaml", "{project}/conf/real.yaml", "way/real.yaml", "conf/../conf/second"]
)
def test_a_link_that_stays_inside_is_followed(project: Path, name: str, target: str) -> None:
    (project / "Sandboxfile.yaml").write_text(HEAD + "services: {include: compose.yaml}\n")
    (project / "compose.yaml").write_text("services: {a: {image: a}}\n")
    real = (project / name).read_text() if (project / name).exists() else "packages: [jq]\n"
    (project / "conf/real.yaml").write_text(real)
    points(project / "conf/second", "real.yaml")
    points(project / "way", project / "conf")
    points(project / name, target.format(project=project))
    assert "a" in load(project / "Sandboxfile.yaml").sandbox.services


def test_what_the_user_names_may_be_anywhere(project: Path) -> None:
    over = project.parent / "over.yaml"
    over.write_text("packages: [jq]\n")
    points(project / "link.yaml", "../over.yaml")
    for named in (over, project / "link.yaml"):
        assert load(project / "Sandboxfile.yaml", Inputs(files=(named,))).sandbox.packages == ("jq",)
    os.mkfifo(project / "fifo")
    assert "not a regular file" in refusal(project / "Sandboxfile.yaml", project / "fifo")


def test_a_project_behind_a_link_is_a_project(project: Path) -> None:
    points(project.parent / "work", "project")
    assert load(project.parent / "work" / "Sandboxfile.yaml").project == project.parent / "work"


def test_a_link_to_nothing_is_no_local_layer(project: Path) -> None:
    points(project / "Sandboxfile.local.yaml", "../not-yet.yaml")
    assert load(project / "Sandboxfile.yaml").unnamed == {}


@pytest.mark.parametrize("turned", ["x", "conf"])
def test_what_was_looked_at_is_what_is_read(project: Path, turned: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that turns a file, or a directory, into a link between the look and the reading."""
    (file := project / "conf/x").write_text("x: 1\n")
    (project.parent / "out").mkdir()
    (project.parent / "out/x").write_text(KEY)
    opened: Callable[..., int] = os.open

    def late(path: str, flags: int, *rest: int, **options: int) -> int:
        if path == turned == "x":
            points(file, project.parent / "id_rsa")
        elif path == turned:
            (project / "conf").rename(project / "was")
            points(project / "conf", project.parent / "out")
        return opened(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", late)
    monkeypatch.setattr(os, "supports_dir_fd", {late, os.readlink})
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        read_within(project, file, 100)


def test_links_without_end(project: Path) -> None:
    points(project / "a", "b")
    points(project / "b", "a")
    with pytest.raises(OSError, match="symbolic links") as caught:
        read_within(project, project / "a", 100)
    assert not isinstance(caught.value, LeadsOutError)
    assert len(list(steps_to(project / "a"))) == 40


def test_every_name_that_decides(project: Path) -> None:
    points(project / "first", "conf/second")
    points(project / "conf/second", "../way/third")
    points(project / "way", project / "conf")
    (project / "conf/third").write_text("")
    names = ("first", "conf/second", "way", "conf/third")
    assert list(steps_to(project / "first")) == [project / name for name in names]
    assert list(steps_to(project / "not-there")) == [project / "not-there"]
    points(project.parent / "work", "project")
    assert list(steps_to(project.parent / "work/conf/third")) == [project.parent / "work", project / "conf/third"]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_nothing_stays_open(project: Path) -> None:
    points(project / "out", "conf/../../id_rsa")
    (project / "conf/x").write_text("x")
    before = descriptors()
    for name in ("out", "conf/x", "conf", "gone", "gone/x"):
        try:
            read_within(project, project / name, 10)
        except OSError:
            continue
    assert descriptors() == before


# -- read without being named


def content(loaded: Loaded) -> dict[str, bytes]:
    return {path.name: text for path, text in loaded.unnamed.items()}


def test_what_was_read_without_being_named(project: Path) -> None:
    main = project / "Sandboxfile.yaml"
    assert content(load(main)) == {}
    (project / ".env").write_text("B=1\n")
    (local := project / "Sandboxfile.local.yaml").write_text("packages: [jq]\n")
    assert content(load(main)) == {local.name: b"packages: [jq]\n"}
    main.write_text(HEAD + "agent: {command: [run], env: {A: '${B}'}}\n")
    assert content(load(main)) == {local.name: b"packages: [jq]\n", ".env": b"B=1\n"}
    assert content(load(main, Inputs(environment={"B": "2"}))) == {local.name: b"packages: [jq]\n"}


@pytest.mark.parametrize(
    "how", ["Sandboxfile.local.yaml", "./conf/../Sandboxfile.local.yaml", "{project}/Sandboxfile.local.yaml"]
)
def test_named_it_is_a_layer_like_any_other(project: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    (project / "Sandboxfile.local.yaml").write_text("packages: [jq]\n")
    loaded = load(project / "Sandboxfile.yaml", Inputs(files=(Path(how.format(project=project)),)))
    assert loaded.unnamed == {} and loaded.sandbox.packages == ("jq",) and len(loaded.layers) == 2
