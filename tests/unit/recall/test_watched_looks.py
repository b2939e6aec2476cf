"""What a Watch notes, by every way in which Python looks at files, and whether a change is seen afterwards."""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.recall import looks as module
from engine.recall.looks import Looks, changed
from engine.recall.watch import Watch, asking
from sandboxfile.reading.regular_file import LeadsOutError, read_within
from vmm.beneath import FILE, open_beneath

SALT = b"s" * 16


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory whose files were changed long ago."""
    (tmp_path / "sub").mkdir()
    for name in ("a", "sub/b"):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, ns=(1, 1))
    return tmp_path


@pytest.fixture(autouse=True)
def _nothing_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a test were all made a moment ago."""
    monkeypatch.setattr(module, "FRESH_NS", -(10**18))


def watched(action: Callable[[], object], *ours: str) -> Looks:
    with Watch([sys.prefix, sys.base_prefix, *ours]) as watch:
        action()
    return watch.looks


def what_changed(looks: Looks, environment: dict[str, str] | None = None) -> str:
    return changed(json.loads(json.dumps(looks.to_json(SALT))), environment or {})


READS: dict[str, Callable[[Path], object]] = {
    "open": lambda at: open(at / "a").close(),  # noqa: PTH123
    "Path.open": lambda at: (at / "a").open().close(),
    "read_text": lambda at: (at / "a").read_text(),
    "os.open": lambda at: os.close(os.open(at / "a", os.O_RDONLY)),
    "beneath a descriptor": lambda at: _beneath(at, "a"),
    "openat2": lambda at: _openat2(at, "a"),
}
LOOKS: dict[str, Callable[[Path], object]] = {
    "exists": lambda at: (at / "new").exists(),
    "is_file": lambda at: (at / "new").is_file(),
    "is_dir": lambda at: (at / "new").is_dir(),
    "os.path.exists": lambda at: os.path.exists(at / "new"),  # noqa: PTH110
    "os.path.isfile": lambda at: os.path.isfile(at / "new"),  # noqa: PTH113
    "lexists": lambda at: os.path.lexists(at / "new"),
    "is_symlink": lambda at: (at / "new").is_symlink(),
    "access": lambda at: os.access(at / "new", os.R_OK),
    "which": lambda at: shutil.which("new", path=str(at)),
    "opened in vain": lambda at: _in_vain(at / "new"),
    "beneath a descriptor": lambda at: _stat_beneath(at, "new"),
    "resolve": lambda at: (at / "new").resolve(),
}
LISTS: dict[str, Callable[[Path], object]] = {
    "iterdir": lambda at: list(at.iterdir()),
    "listdir": os.listdir,
    "scandir": lambda at: list(os.scandir(at)),
    "glob": lambda at: list(at.glob("*")),
    "rglob": lambda at: list(at.rglob("*")),
    "glob module": lambda at: glob.glob(f"{at}/*"),  # noqa: PTH207
    "walk": lambda at: list(os.walk(at)),
    "a descriptor": lambda at: _list_descriptor(at),
}


def _beneath(at: Path, name: str) -> None:
    above = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
    os.close(os.open(name, os.O_RDONLY, dir_fd=above))
    os.close(above)


def _openat2(at: Path, name: str) -> None:
    above = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
    with os.fdopen(open_beneath(above, name, FILE)) as file:
        file.read()
    os.close(above)


def _stat_beneath(at: Path, name: str) -> None:
    above = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.stat(name, dir_fd=above)
    except FileNotFoundError:
        os.close(above)


def _list_descriptor(at: Path) -> None:
    above = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
    os.listdir(above)  # noqa: PTH208
    os.close(above)


def _in_vain(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        path.read_text()


@pytest.mark.parametrize("way", READS)
def test_a_file_that_was_read_is_seen_to_change(place: Path, way: str) -> None:
    looks = watched(lambda: READS[way](place))
    assert looks.whole, looks.why
    assert what_changed(looks) == ""
    (place / "a").write_text("y")
    assert what_changed(looks) == str(place / "a")


@pytest.mark.parametrize("way", READS)
def test_a_file_of_the_same_size_and_time_is_seen_to_change(place: Path, way: str) -> None:
    looks = watched(lambda: READS[way](place))
    (place / "a").write_text("y")
    os.utime(place / "a", ns=(1, 1))  # nobody can set the third time, that of the change itself
    assert what_changed(looks) == str(place / "a")


@pytest.mark.parametrize("way", LOOKS)
def test_a_file_that_was_not_there_is_seen_to_come(place: Path, way: str) -> None:
    looks = watched(lambda: LOOKS[way](place))
    assert looks.whole, looks.why
    assert what_changed(looks) == ""
    (place / "other").write_text("")
    assert what_changed(looks) == "", "another file is no matter"
    (place / "new").write_text("")
    assert what_changed(looks) == str(place / "new")


@pytest.mark.parametrize("way", LISTS)
def test_a_directory_that_was_listed_is_seen_to_change(place: Path, way: str) -> None:
    looks = watched(lambda: LISTS[way](place))
    assert looks.whole, looks.why
    assert what_changed(looks) == ""
    (place / "new").write_text("")
    assert what_changed(looks) == str(place)


def test_a_link_on_the_way_is_seen_to_lead_elsewhere(place: Path) -> None:
    (place / "link").symlink_to("a")
    looks = watched(lambda: (place / "link").read_text())
    assert what_changed(looks) == ""
    (place / "link").unlink()
    (place / "link").symlink_to("sub/b")
    assert what_changed(looks) == str(place / "link")


def test_a_directory_in_the_place_of_another_is_seen(place: Path) -> None:
    looks = watched(lambda: (place / "sub").is_dir())
    (place / "sub/new").write_text("")
    assert what_changed(looks) == "", "only what it is was asked"
    (place / "sub").rename(place / "old")
    (place / "sub").mkdir()
    assert what_changed(looks) == str(place / "sub")


def test_our_own_directories_are_no_input(place: Path) -> None:
    looks = watched(lambda: (place / "sub/b").read_text(), str(place / "sub"))
    assert str(place / "sub/b") not in [look.path for look in looks.paths]
    assert str(place / "a") in [look.path for look in watched(lambda: (place / "a").read_text()).paths]


def test_variables_that_were_asked_for_are_seen_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASKED", "one")
    monkeypatch.delenv("MISSING", raising=False)
    looks = watched(lambda: (os.environ.get("ASKED"), os.getenv("MISSING"), "OTHER" in os.environ))
    assert what_changed(looks, {"ASKED": "one"}) == ""
    assert what_changed(looks, {"ASKED": "one", "UNRELATED": "x"}) == ""
    assert what_changed(looks, {"ASKED": "two"}) == "$ASKED"
    assert what_changed(looks, {}) == "$ASKED"
    assert what_changed(looks, {"ASKED": "one", "MISSING": ""}) == "$MISSING"
    assert what_changed(looks, {"ASKED": "one", "OTHER": ""}) == "$OTHER"


def test_no_value_of_a_variable_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "sk-very-secret-value")
    text = json.dumps(watched(lambda: os.environ["TOKEN"]).to_json(SALT))
    assert "TOKEN" in text and "very-secret" not in text


def test_the_environment_is_passed_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASKED", "one")

    def act() -> None:
        os.environ["SET"] = "two"
        assert dict(os.environ)["SET"] == "two"
        with asking(()):
            child = subprocess.run([sys.executable, "-c", "import os; print(os.environ['SET'])"], capture_output=True)
        assert child.stdout == b"two\n"
        del os.environ["SET"]

    watched(act)
    assert "SET" not in os.environ and os.environ["ASKED"] == "one"


def test_another_program_makes_the_looks_useless() -> None:
    looks = watched(lambda: subprocess.run([sys.executable, "-c", ""], check=True))
    assert not looks.whole and sys.executable in looks.why


def test_a_program_whose_configuration_is_known_does_not(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("Tool_Option", "1")

    def act() -> None:
        with asking([str(place / "a"), str(place / "sub"), str(place / "none")], ["tool_"]):
            subprocess.run([sys.executable, "-c", ""], check=True)

    looks = watched(act)
    assert looks.whole, looks.why
    now = {"Tool_Option": "1", "PATH": os.environ["PATH"]}
    assert what_changed(looks, now) == ""
    assert what_changed(looks, {**now, "Tool_Option": "2"}) == "$tool_..."
    assert what_changed(looks, {**now, "TOOL_NEW": ""}) == "$tool_...", "it was not there before"
    (place / "sub/b").write_text("changed")
    assert what_changed(looks, now) == str(place / "sub/b")


def test_what_was_changed_a_moment_ago_is_not_trusted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRESH_NS", 10**18)
    looks = watched(lambda: (place / "a").read_text())
    assert not looks.whole and "a moment ago" in looks.why


def test_nothing_is_noted_in_a_pause_or_after_the_end(place: Path) -> None:
    with Watch([sys.prefix, sys.base_prefix]) as watch, watch.paused():
        (place / "a").read_text()
        subprocess.run([sys.executable, "-c", ""], check=True)
    (place / "a").read_text()
    assert watch.looks.whole
    assert str(place / "a") not in [look.path for look in watch.looks.paths]
    assert os.stat.__name__ == "stat" and type(os.environ).__name__ == "_Environ"


@pytest.mark.parametrize("depth", ["there", "names", "content"])
def test_the_first_look_counts(place: Path, depth: module.Depth) -> None:
    """What came of the first look may be what is kept, so a change between two looks must be seen later."""
    looks = Looks()
    looks.add(str(place / "sub"), True, depth)
    before = looks.paths
    (place / "sub/new").write_text("")
    looks.add(str(place / "sub"), True, depth)
    assert looks.paths == before


def test_who_reads_without_a_race_goes_on_doing_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be read beneath a descriptor is read so, also while a Watch has its own functions in the place of os's:
    a guest that puts a link there in between must not have a file of the host read."""
    names = ("supports_dir_fd", "supports_fd", "supports_follow_symlinks", "supports_effective_ids")
    supported = {name: set(getattr(os, name)) for name in names}
    (place / "secret").write_text("of the host")
    (place / "sub/link").symlink_to(place / "secret")

    def act() -> None:
        assert {os.stat, os.open, os.readlink, os.access} <= os.supports_dir_fd
        assert os.stat in os.supports_follow_symlinks
        monkeypatch.setattr(os.path, "realpath", lambda path, **_: str(path))  # as if the link came right after it
        with pytest.raises(LeadsOutError):
            read_within(place / "sub", place / "sub/link", 100)

    watched(act)
    assert {name: set(getattr(os, name)) for name in supported} == supported
    assert shutil.rmtree.avoids_symlink_attacks


def test_the_environment_can_be_changed_in_every_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASKED", "one")

    def act() -> None:
        assert os.environ.setdefault("SET", "two") == "two" and os.environ["SET"] == "two"
        assert os.environ.pop("SET") == "two" and "SET" not in os.environ
        os.environ.update(ASKED="three")
        assert os.environ["ASKED"] == "three"

    watched(act)
    assert os.environ["ASKED"] == "three"


def test_a_directory_that_cannot_be_searched_makes_the_looks_useless(place: Path) -> None:
    (place / "loop").symlink_to("loop")
    looks = watched(lambda: os.access(place / "loop/file", os.R_OK))
    assert not looks.whole and "loop" in looks.why


def test_what_leads_out_of_our_own_directories_is_an_input(place: Path) -> None:
    looks = watched(lambda: Path(f"{place}/sub/../a").read_text(), str(place / "sub"))
    assert f"{place}/sub/../a" in [look.path for look in looks.paths]
