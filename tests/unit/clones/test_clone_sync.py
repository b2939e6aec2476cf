"""`sync`: what goes where, what stays, and that both sides have one content afterwards."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from cloned import Cloned, run_here, run_in_process, same, tree, write
from fake_guest import FakeGuest

from engine.clones import changes as changes_module
from engine.clones import putting as putting_module
from engine.errors import EngineError
from engine.lifecycle import syncing
from engine.lifecycle.syncing import InConflict
from engine.state.instances import Instance
from engine.state.layout import Layout

LINES = "1\n2\n3\n4\n5\n6\n7\n"


@pytest.fixture
def cloned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloned:
    cloned = Cloned(tmp_path, monkeypatch)
    cloned.git("init", "-q")
    write(cloned.host, {".gitignore": "out/\n*.log\n", "a.py": LINES, "b": "b", "d/only": "o", "run.sh": "x"})
    cloned.commit()
    cloned.clone()
    return cloned


def test_each_change_goes_to_the_other_side(cloned: Cloned) -> None:
    write(cloned.host, {"b": "of the host", "new/deep/host": "h"})
    (cloned.host / "run.sh").chmod(0o755)
    (cloned.host / "to-b").symlink_to("b")
    write(cloned.guest, {"a.py": "of the copy\n", "new/guest": "g\0binary"})
    (cloned.guest / "d/only").unlink()
    cloned.run = run_here  # by an interpreter of its own, as in a guest
    assert cloned.sync() == {
        "a.py": "to host",
        "b": "to copy",
        "d/only": "to host",
        "new/deep/host": "to copy",
        "new/guest": "to host",
        "run.sh": "to copy",
        "to-b": "to copy",
    }
    found = same(cloned)
    assert found["b"] == (False, b"of the host") and found["run.sh"][0] and found["to-b"] == (False, "b")
    assert "d/only" not in found and not (cloned.host / "d").exists()
    assert cloned.git("status", "--porcelain") == cloned.git("status", "--porcelain", where=cloned.guest)


def test_what_goes_in_is_the_agents_and_keeps_its_permissions(cloned: Cloned) -> None:
    (cloned.guest / "b").chmod(0o640)
    write(cloned.host, {"b": "B", "new/file": "n"})
    cloned.sync()
    assert (cloned.guest / "b").stat().st_mode & 0o777 == 0o640
    if os.geteuid() == 0:
        assert {(cloned.guest / name).stat().st_uid for name in ("new", "new/file")} == {1000}


def test_a_file_that_is_gone_here_goes_there_with_its_empty_directory(cloned: Cloned) -> None:
    (cloned.host / "d/only").unlink()
    assert cloned.sync() == {"d/only": "to copy"}
    assert not (cloned.guest / "d").exists()
    same(cloned)


def test_a_renamed_file(cloned: Cloned) -> None:
    (cloned.host / "a.py").rename(cloned.host / "z.py")
    (cloned.guest / "b").rename(cloned.guest / "y")
    cloned.sync()
    assert set(same(cloned)) == {".gitignore", "z.py", "y", "d/only", "run.sh"}


def test_what_both_have_changed_is_merged_on_both_sides(cloned: Cloned) -> None:
    write(cloned.host, {"a.py": LINES.replace("1", "host")})
    write(cloned.guest, {"a.py": LINES.replace("7", "copy")})
    assert cloned.sync() == {"a.py": "merge"}
    assert same(cloned)["a.py"][1] == b"host\n2\n3\n4\n5\n6\ncopy\n"
    # The base is the common state: the same lines can be changed again, and merge against it.
    write(cloned.guest, {"a.py": "host\n2\n3\n4\n5\n6\ncopy 2\n"})
    assert cloned.found() == {"a.py": "changed"}
    write(cloned.host, {"a.py": "host 2\n2\n3\n4\n5\n6\ncopy\n"})
    assert cloned.sync() == {"a.py": "merge"}
    assert same(cloned)["a.py"][1] == b"host 2\n2\n3\n4\n5\n6\ncopy 2\n"


def test_the_same_change_on_both_sides(cloned: Cloned) -> None:
    for root in (cloned.host, cloned.guest):
        write(root, {"b": "B", "new": "n"})
        (root / "run.sh").unlink()
    assert set(cloned.sync().values()) == {"same"}
    same(cloned)


@pytest.mark.parametrize(
    ("host", "guest"),
    [("host\n", "copy\n"), (None, "copy\n"), ("host\n", None), ("bin\0h", "bin\0g")],
)
def test_a_conflict_changes_nothing_on_either_side(cloned: Cloned, host: str | None, guest: str | None) -> None:
    for root, text in ((cloned.host, host), (cloned.guest, guest)):
        (root / "a.py").unlink() if text is None else write(root, {"a.py": text})
    write(cloned.host, {"b": "of the host"})
    write(cloned.guest, {"new": "of the copy"})
    before = tree(cloned.host), tree(cloned.guest)
    with pytest.raises(InConflict, match=r"nothing was synced: 1 of 3 files are in conflict") as caught:
        cloned.sync()
    assert caught.value.paths == ("a.py",) and "a.py: " in str(caught.value.details)
    assert (tree(cloned.host), tree(cloned.guest)) == before
    assert cloned.sync("b", "new") == {"b": "to copy", "new": "to host"}, "the others by name"


def test_a_dry_run_changes_nothing(cloned: Cloned) -> None:
    write(cloned.host, {"b": "B"})
    write(cloned.guest, {"a.py": "A", "c": "c"})
    before = tree(cloned.host), tree(cloned.guest)
    plan = cloned.sync(dry_run=True)
    assert (tree(cloned.host), tree(cloned.guest)) == before
    assert plan == cloned.sync() == {"a.py": "to host", "b": "to copy", "c": "to host"}


def test_only_named_paths(cloned: Cloned) -> None:
    write(cloned.host, {"b": "B", "e/f": "f"})
    write(cloned.guest, {"a.py": "A", "e/g": "g"})
    assert cloned.sync("e") == {"e/f": "to copy", "e/g": "to host"}
    assert cloned.sync() == {"a.py": "to host", "b": "to copy"}


def test_what_is_held_back_and_refused_stays_and_nothing_goes_over_it(cloned: Cloned) -> None:
    write(cloned.host, {".envrc": "of the host"})
    write(cloned.guest, {".envrc": "of the copy", ".vscode/tasks.json": "{}"})
    (cloned.guest / "out-of-it").symlink_to("/etc/passwd")
    assert cloned.sync() == {".envrc": "held back", ".vscode/tasks.json": "held back", "out-of-it": "refused"}
    assert (cloned.host / ".envrc").read_text() == "of the host"
    assert (cloned.guest / ".envrc").read_text() == "of the copy"
    assert not os.path.lexists(cloned.host / "out-of-it") and not (cloned.host / ".vscode").exists()
    assert cloned.sync(".vscode/tasks.json") == {".vscode/tasks.json": "to host"}


def test_what_is_held_back_and_is_the_same_on_both_sides_is_no_change(cloned: Cloned) -> None:
    """Such as one that the user has read and written by hand."""
    for root in (cloned.host, cloned.guest):
        write(root, {".gitignore": "other/\n", ".envrc": "e"})
    assert cloned.sync() == {".envrc": "same", ".gitignore": "same"}
    same(cloned)


def test_what_runs_later_goes_in_as_it_did_when_the_copy_was_made(cloned: Cloned) -> None:
    write(cloned.host, {".envrc": "e"})
    assert cloned.sync() == {".envrc": "to copy"}
    same(cloned)


def test_what_is_not_copied_does_not_go_in(cloned: Cloned) -> None:
    cloned.local, cloned.hide = ("node_modules",), ("*.pem", "/private/")
    write(cloned.host, {"out/x": "x", "y.log": "y", "key.pem": "k", "private/z": "z", "node_modules/m": "host"})
    write(cloned.host, {".git/hooks/pre-commit": "evil", "sub/.git/config": "c"})
    write(cloned.guest, {"out/x": "of the copy", "node_modules/m": "copy"})
    before = tree(cloned.guest)
    assert cloned.sync() == {}
    assert tree(cloned.guest) == before and not (cloned.guest / ".git/hooks").exists()


def test_nothing_comes_out_of_a_hidden_path(cloned: Cloned) -> None:
    cloned.hide = ("*.pem",)
    write(cloned.guest, {"key.pem": "of the copy"})
    assert cloned.sync() == cloned.sync("key.pem") == {"key.pem": "refused"}
    assert not (cloned.host / "key.pem").exists()


def test_a_file_that_git_here_ignores_by_now_stays_in_the_copy(cloned: Cloned) -> None:
    write(cloned.host, {"notes": "n"})
    cloned.sync()
    write(cloned.host, {".gitignore": "out/\n*.log\nnotes\n"})
    assert cloned.sync() == {".gitignore": "to copy"}
    assert (cloned.guest / "notes").exists()


def test_a_file_that_git_in_the_copy_ignores_is_not_written_over(cloned: Cloned) -> None:
    write(cloned.guest, {".gitignore": "local\n", "local": "of the copy"})
    write(cloned.host, {"local": "of the host", "b": "B"})
    assert cloned.sync() == {".gitignore": "held back", "b": "to copy", "local": "refused"}
    assert (cloned.guest / "local").read_text() == "of the copy" and (cloned.guest / "b").read_text() == "B"


@pytest.mark.parametrize("path", [".gitignore", "sub/.gitignore", "d/.GITIGNORE"])
@pytest.mark.parametrize("text", ["", "!secret.log\n", None])
def test_what_the_copy_says_of_ignored_files_does_not_let_them_in(cloned: Cloned, path: str, text: str | None) -> None:
    """Else the guest would get the user's secrets by the sync after the one that took its `.gitignore` over."""
    write(cloned.host, {"secret.log": "s", "sub/secret.log": "s", "d/secret.log": "s", "sub/.gitignore": "*.pem\n"})
    cloned.sync()
    before = tree(cloned.guest)
    (cloned.guest / path).unlink(missing_ok=True)
    if text is not None:
        write(cloned.guest, {path: text})
    for _ in range(2):
        assert set(cloned.sync().values()) <= {"held back"}
    assert tree(cloned.guest).keys() - {path} == before.keys() - {path}
    assert not [name for name in tree(cloned.guest) if name.endswith("secret.log")]


def test_a_file_of_ignored_names_that_this_repository_has_is_held_back(cloned: Cloned) -> None:
    cloned.git("config", "core.excludesFile", "ignored-by-all")
    write(cloned.host, {"ignored-by-all": "key\n", "key": "k"})
    assert cloned.sync() == {"ignored-by-all": "to copy"}
    write(cloned.guest, {"ignored-by-all": ""})
    assert cloned.sync() == cloned.sync() == {"ignored-by-all": "held back"}


def test_a_repository_that_is_away_for_a_moment_lets_nothing_in(cloned: Cloned) -> None:
    write(cloned.host, {"secret.log": "s", "b": "B"})
    (cloned.host / ".git").rename(cloned.host.parent / "away")
    with pytest.raises(EngineError, match="is no git repository any more"):
        cloned.sync()
    assert (cloned.guest / "b").read_text() == "b"
    (cloned.host.parent / "away").rename(cloned.host / ".git")
    assert cloned.sync() == {"b": "to copy"}


def test_a_file_that_was_ignored_when_the_copy_was_made_goes_in_by_name_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another branch that is checked out may not ignore it."""
    cloned = Cloned(tmp_path, monkeypatch)
    cloned.git("init", "-q")
    write(cloned.host, {".gitignore": "key\nout/\n", "key": "k", "out/x": "x", "a": "a"})
    cloned.git("add", "-A")
    cloned.git("commit", "-qm", "x")
    cloned.clone()
    write(cloned.host, {".gitignore": "", "new": "n"})
    held = {"key": "held back", "out/x": "held back"}
    assert cloned.sync() == {".gitignore": "to copy", "new": "to copy", **held}
    assert cloned.sync() == held and not (cloned.guest / "key").exists()
    assert cloned.sync("key") == {"key": "to copy"} and cloned.sync("out") == {"out/x": "to copy"}
    same(cloned)


def test_the_repository_of_the_copy_is_left_alone(cloned: Cloned) -> None:
    """HEAD and the index stay: git there shows what came in as changes."""
    index, head = ((cloned.guest / ".git" / name).read_bytes() for name in ("index", "HEAD"))
    write(cloned.host, {"b": "B"})
    cloned.commit()
    cloned.sync()
    assert [(cloned.guest / ".git" / name).read_bytes() for name in ("index", "HEAD")] == [index, head]
    assert cloned.git("status", "--porcelain", where=cloned.guest) == " M b\n"


def test_a_link_of_the_host_goes_in_as_a_link(cloned: Cloned, tmp_path: Path) -> None:
    write(tmp_path, {"outside/secret": "s"})
    (cloned.host / "leads-out").symlink_to(tmp_path / "outside")
    (cloned.host / "b").unlink()
    (cloned.host / "b").symlink_to(tmp_path / "outside/secret")
    assert cloned.sync() == {"b": "to copy", "leads-out": "to copy"}
    assert (cloned.guest / "b").is_symlink() and (cloned.guest / "leads-out").is_symlink()


def test_nothing_goes_in_through_a_link_of_the_copy(cloned: Cloned, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (cloned.guest / "d/only").unlink()
    (cloned.guest / "d").rmdir()
    (cloned.guest / "d").symlink_to(tmp_path / "outside")
    (cloned.guest / "out").symlink_to(tmp_path / "outside")  # git ignores it there
    write(cloned.host, {"d/new": "n", "b": "B"})
    found = cloned.sync()
    assert found["d/new"] == "refused" and found["b"] == "to copy"
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_link_of_the_copy_that_git_ignores_is_not_followed(cloned: Cloned, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    write(cloned.guest, {".git/info/exclude": "e\n"})
    (cloned.guest / "e").symlink_to(tmp_path / "outside")
    write(cloned.host, {"e/new": "n"})
    assert cloned.sync() == {"e/new": "refused"}
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("side", ["host", "guest"])
def test_a_file_that_becomes_a_directory_is_left_alone(cloned: Cloned, side: str) -> None:
    root = getattr(cloned, side)
    (root / "b").unlink()
    write(root, {"b/c": "c", "a.py": "A"})
    before = tree(cloned.host), tree(cloned.guest)
    found = cloned.sync()
    assert found.pop("a.py") in ("to host", "to copy") and found == {"b": "refused", "b/c": "refused"}
    for root, was in zip((cloned.host, cloned.guest), before, strict=True):
        assert {**tree(root), "a.py": None} == {**was, "a.py": None}


def test_a_directory_and_a_file_of_one_name_are_both_new(cloned: Cloned) -> None:
    write(cloned.host, {"x/y": "h"})
    write(cloned.guest, {"x": "g"})
    assert cloned.sync() == {"x": "refused", "x/y": "refused"}


def test_only_one_way(cloned: Cloned) -> None:
    write(cloned.host, {"a.py": LINES.replace("1", "host"), "b": "B"})
    write(cloned.guest, {"a.py": LINES.replace("7", "copy"), "c": "c"})
    assert cloned.sync(ways="from host") == {"a.py": "merge", "b": "to copy"}
    assert (cloned.guest / "a.py").read_text() == "host\n2\n3\n4\n5\n6\ncopy\n"
    assert (cloned.host / "a.py").read_text() == "host\n2\n3\n4\n5\n6\n7\n"
    assert cloned.found() == {"a.py": "changed", "c": "new"}, "what is still to come out"
    write(cloned.host, {"b": "B 2"})
    assert cloned.sync(ways="to host") == {"a.py": "to host", "c": "to host"}
    assert cloned.sync() == {"b": "to copy"}
    same(cloned)


def test_a_merge_to_the_host_only(cloned: Cloned) -> None:
    write(cloned.host, {"a.py": LINES.replace("1", "host")})
    write(cloned.guest, {"a.py": LINES.replace("7", "copy")})
    assert cloned.sync(ways="to host") == {"a.py": "merge"}
    assert (cloned.guest / "a.py").read_text() == LINES.replace("7", "copy")
    assert cloned.sync() == {"a.py": "to copy"}
    same(cloned)


@pytest.mark.parametrize(("side", "words"), [("host", "on this host"), ("guest", "in the copy")])
def test_a_side_that_has_lost_everything_is_an_accident(cloned: Cloned, side: str, words: str) -> None:
    for name in tree(getattr(cloned, side)):
        (getattr(cloned, side) / name).unlink()
    with pytest.raises(EngineError, match=f"all 5 files that were copied are gone {words}"):
        cloned.sync()
    assert len(tree(cloned.guest if side == "host" else cloned.host)) == 5
    assert len(cloned.sync(*tree(cloned.guest if side == "host" else cloned.host))) == 5, "by name they go"


def test_a_file_of_the_same_size_and_time_as_when_it_was_copied(cloned: Cloned) -> None:
    """What was changed in the very moment in which the base was recorded has the time of the file before."""
    at = (cloned.host / "b").stat().st_mtime_ns
    (cloned.host / "b").write_text("B")
    os.utime(cloned.host / "b", ns=(at, at))
    os.utime(cloned.directory / "manifest.json", ns=(at, at))
    assert cloned.sync() == {"b": "to copy"}


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cloned = Cloned(tmp_path, monkeypatch)
    write(cloned.host, {"a": "a", "inner/.git/config": "x", "inner/b": "b"})
    cloned.clone()
    write(cloned.host, {"a": "A", "inner/.git/config": "changed", "new": "n"})
    write(cloned.guest, {"inner/b": "B"})
    assert cloned.sync() == {"a": "to copy", "inner/b": "to host", "new": "to copy"}
    assert (cloned.guest / "inner/.git/config").read_text() == "x"


# several copies of one sandbox


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "cache", tmp_path / "state", tmp_path / "run", tmp_path / "config")


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: Layout) -> tuple[Cloned, Cloned]:
    """Two copies, and `sync` that finds them."""
    found = []
    for number, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        cloned = Cloned(tmp_path / name, monkeypatch)
        cloned.directory = layout.instance("shop").clone(number)
        write(cloned.host, {"a": "a", "b": "b"})
        cloned.clone()
        found.append(cloned)
    record = Instance(name="shop", project="", file="", plan_key="", created="", state="running")
    points = [cloned.point for cloned in found]
    monkeypatch.setattr(syncing, "clones_of", lambda *_: (record, Path("control"), points))

    async def connect(control: Path) -> FakeGuest:
        guest = FakeGuest()
        guest.answer("", run_in_process)
        return guest

    monkeypatch.setattr("vmm.channel.client.connect", connect)
    return found[0], found[1]


def sync_all(layout: Layout, *words: str) -> list[dict[str, str]]:
    name, found = asyncio.run(syncing.sync(layout, "shop", words))
    assert name == "shop"
    return [{one.path: one.action for one in synced.crossings} for synced in found]


def test_all_copies_of_a_sandbox(layout: Layout, two: tuple[Cloned, Cloned]) -> None:
    write(two[0].host, {"a": "A"})
    write(two[1].guest, {"b": "B"})
    assert sync_all(layout) == [{"a": "to copy"}, {"b": "to host"}]
    write(two[1].host, {"a": "A"})
    assert sync_all(layout, str(two[1].host / "a")) == [{"a": "to copy"}]


def test_two_copies_have_nothing_in_common_in_the_guest(
    layout: Layout, two: tuple[Cloned, Cloned], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One of them may be synced by another command meanwhile: what it has put aside, and its base, stay."""
    for module in (changes_module, putting_module):
        monkeypatch.setattr(module, "STATE", str(tmp_path / "in-guest"))
    write(two[0].host, {"a": "A"})
    write(two[1].host, {"a": "A"})
    seen = set[frozenset[str]]()
    real = syncing.keep

    async def keep(*args: Any) -> None:
        seen.add(frozenset(str(path) for path in (tmp_path / "in-guest").rglob("*") if path.is_file()))
        await real(*args)

    monkeypatch.setattr(syncing, "keep", keep)
    sync_all(layout)
    first, second = sorted(seen, key=len)
    told = [path for path in first & second if path.endswith(".json")]
    assert len(told) == 2, "a manifest of each"
    assert not {Path(path).parent for path in first - set(told)} & {Path(path).parent for path in second - first}


def test_a_conflict_in_one_copy_changes_nothing_in_another(layout: Layout, two: tuple[Cloned, Cloned]) -> None:
    write(two[0].host, {"a": "A"})
    write(two[1].host, {"a": "host"})
    write(two[1].guest, {"a": "copy"})
    with pytest.raises(InConflict, match="1 of 2 files"):
        sync_all(layout)
    assert (two[0].guest / "a").read_text() == "a"


def test_a_word_that_is_no_file(layout: Layout, two: tuple[Cloned, Cloned]) -> None:
    with pytest.raises(EngineError, match="nothing-of-it is no file of the copy"):
        sync_all(layout, "nothing-of-it")
    assert sync_all(layout, "a") == [{}, {}], "one that nobody has changed"
