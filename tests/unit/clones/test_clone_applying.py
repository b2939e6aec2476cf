"""Taking changes over: all or nothing, nothing through a link, nothing that runs later without having been named."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from cloned import Cloned, write

from engine.clones import applying
from engine.clones.applying import PREFIX, Host, Step, applied, carry_out, plan_apply
from engine.clones.base import Entry
from engine.clones.held_back import held_back, is_repository
from engine.errors import EngineError
from engine.workspaces.run_later import run_later
from sandboxfile.load import FILE_NAMES


@pytest.fixture
def cloned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloned:
    cloned = Cloned(tmp_path, monkeypatch)
    cloned.git("init", "-q")
    write(cloned.host, {"a.py": "1\n2\n3\n4\n5\n", "b": "b", "d/only": "o"})
    cloned.commit()
    cloned.clone()
    return cloned


def plan(cloned: Cloned, *named: str) -> list[Step]:
    changes = cloned.changes()
    with Host(str(cloned.host)) as host:
        return plan_apply(changes, host, changes.found, named)


def actions(steps: list[Step]) -> dict[str, str]:
    return {step.change.path: step.action for step in steps}


def apply(cloned: Cloned, *named: str) -> dict[str, str]:
    steps = plan(cloned, *named)
    with Host(str(cloned.host)) as host:
        carry_out(host, steps)
    changes = cloned.changes()
    changes.base.advance(applied(changes, steps))
    assert not list(cloned.host.rglob(f"{PREFIX}*")), "nothing stays beside"
    return actions(steps)


def test_what_cannot_be_written_leaves_no_directories(cloned: Cloned) -> None:
    """A guest may name what no file system takes."""
    write(cloned.guest, {"new/deep/file": "n"})
    (step,) = plan(cloned)
    assert step.entry is not None
    nowhere = Entry(False, "", target="")  # an empty link
    longest = replace(step, change=replace(step.change, path=f"more/{'x' * 256}"))
    for bad in (replace(step, entry=nowhere), longest):
        with Host(str(cloned.host)) as host, pytest.raises(EngineError, match="nothing was applied"):
            carry_out(host, [step, bad])
        assert sorted(path.name for path in cloned.host.iterdir()) == [".git", "a.py", "b", "d"]
        assert (cloned.host / "d/only").read_text() == "o"


def test_files_are_written_made_and_removed(cloned: Cloned) -> None:
    (cloned.host / "b").chmod(0o640)
    write(cloned.guest, {"b": "B", "new/deep/file": "n"})
    (cloned.guest / "d/only").unlink()
    (cloned.guest / "to-b").symlink_to("b")
    assert apply(cloned) == {"b": "write", "d/only": "remove", "new/deep/file": "write", "to-b": "write"}
    assert (cloned.host / "b").read_text() == "B" and (cloned.host / "new/deep/file").read_text() == "n"
    assert (cloned.host / "b").stat().st_mode & 0o777 == 0o640, "permissions stay"
    assert not (cloned.host / "d").exists() and (cloned.host / "to-b").readlink() == Path("b")
    assert cloned.found() == {}, "what was applied is no change any more"


def test_the_x_bit_is_taken_over(cloned: Cloned) -> None:
    (cloned.host / "b").chmod(0o640)
    (cloned.guest / "b").chmod(0o755)
    apply(cloned)
    assert (cloned.host / "b").stat().st_mode & 0o777 == 0o750


def test_what_the_host_has_changed_too_is_merged(cloned: Cloned) -> None:
    write(cloned.host, {"a.py": "1!\n2\n3\n4\n5\n"})
    write(cloned.guest, {"a.py": "1\n2\n3\n4\n5!\n"})
    assert apply(cloned) == {"a.py": "merge"}
    assert (cloned.host / "a.py").read_text() == "1!\n2\n3\n4\n5!\n"
    write(cloned.guest, {"a.py": "1\n2\n3!\n4\n5!\n"})
    assert apply(cloned) == {"a.py": "merge"}
    assert (cloned.host / "a.py").read_text() == "1!\n2\n3!\n4\n5!\n"


@pytest.mark.parametrize(
    ("host", "guest"),
    [("1!\n2\n3\n4\n5\n", "1?\n2\n3\n4\n5\n"), (None, "1?\n2\n3\n4\n5\n"), ("1!\n2\n3\n4\n5\n", None)],
)
def test_conflicts(cloned: Cloned, host: str | None, guest: str | None) -> None:
    for root, text in ((cloned.host, host), (cloned.guest, guest)):
        (root / "a.py").unlink() if text is None else write(root, {"a.py": text})
    assert actions(plan(cloned)) == {"a.py": "conflict"}


def test_both_have_the_same_change(cloned: Cloned) -> None:
    for root in (cloned.host, cloned.guest):
        write(root, {"b": "B", "new": "n"})
    assert apply(cloned) == {"b": "same", "new": "same"}
    assert cloned.found() == {}


def test_both_have_made_a_file_of_one_name(cloned: Cloned) -> None:
    write(cloned.host, {"new": "h"})
    write(cloned.guest, {"new": "g"})
    assert actions(plan(cloned)) == {"new": "conflict"}


@pytest.mark.parametrize(
    ("path", "runs"),
    [
        (".github/workflows/ci.yml", True),
        ("sub/.GitHub/Workflows/ci.yml", True),
        (".gitlab-ci.yml", True),
        (".vscode/tasks.json", True),
        ("Sandboxfile.yaml", True),
        ("x/.envrc", True),
        (".husky/pre-commit", True),
        ("src/workflows/a.py", False),
        (".github/CODEOWNERS", False),
        ("README.md", False),
    ],
)
def test_what_runs_later_is_held_back_unless_it_is_named(path: str, runs: bool) -> None:
    assert (held_back(path) is not None) == runs
    assert held_back(path, [path]) is None


def test_a_directory_that_is_named_names_what_runs_only_if_it_is_such_a_place() -> None:
    assert held_back(".github/workflows/ci.yml", [".github/workflows"]) is None
    assert held_back(".husky/pre-commit", [".husky"]) is None
    assert held_back("src/.envrc", ["src"]) is not None and held_back("src/.claude/settings.json", ["src"]) is not None


@pytest.mark.parametrize("name", [".VSCODE/tasks.json", ".v\u017fcode/tasks.json", ".vs\u200ccode/tasks.json"])
def test_other_spellings_of_a_name(name: str) -> None:
    assert held_back(name) is not None


@pytest.mark.parametrize("name", [".git", ".GIT", ".git ", "git~1", ".g\u200cit", ".git::$INDEX_ALLOCATION"])
def test_spellings_of_a_repository(name: str) -> None:
    assert is_repository(name)


def test_the_file_of_the_sandbox_is_held_back_by_each_of_its_names() -> None:
    names = {*FILE_NAMES, *(name.replace("Sandboxfile", "Sandboxfile.local") for name in FILE_NAMES), ".env"}
    assert all(held_back(name) is not None for name in names), names


def test_what_git_here_obeys_is_held_back(cloned: Cloned) -> None:
    cloned.git("config", "core.hooksPath", "tools/hooks")
    write(cloned.guest, {"tools/hooks/pre-commit": "evil", "b": "B"})
    changes = cloned.changes()
    inside = [path for path in run_later(cloned.host) if path.is_relative_to(cloned.host)]
    obeyed = [str(path.relative_to(cloned.host)) for path in inside]
    with Host(str(cloned.host)) as host:
        steps = plan_apply(changes, host, changes.found, (), obeyed)
    assert actions(steps) == {"b": "write", "tools/hooks/pre-commit": "held back"}


@pytest.mark.parametrize(
    ("link", "target", "action"),
    [(".claude", "docs", "held back"), ("out", ".git/hooks", "refused"), ("out", ".github/workflows", "held back")],
)
def test_a_link_in_the_place_of_what_runs_later(cloned: Cloned, link: str, target: str, action: str) -> None:
    (cloned.guest / link).symlink_to(target)
    assert actions(plan(cloned)) == {link: action}


def test_a_file_that_becomes_a_directory_is_left_alone(cloned: Cloned) -> None:
    (cloned.guest / "b").unlink()
    write(cloned.guest, {"b/c": "c", "a.py": "A"})
    assert apply(cloned) == {"a.py": "write", "b": "refused", "b/c": "refused"}
    assert (cloned.host / "b").read_text() == "b"


def test_a_file_that_is_held_back(cloned: Cloned) -> None:
    write(cloned.guest, {".envrc": "x", "b": "B"})
    assert apply(cloned) == {".envrc": "held back", "b": "write"}
    assert not (cloned.host / ".envrc").exists() and cloned.found() == {".envrc": "new"}
    assert apply(cloned, ".envrc") == {".envrc": "write"}


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "d/../../outside"])
def test_a_link_that_leads_out_is_refused(cloned: Cloned, target: str) -> None:
    (cloned.guest / "l").symlink_to(target)
    assert apply(cloned, "l") == {"l": "refused"}
    assert not (cloned.host / "l").is_symlink()


def test_nothing_is_written_through_a_link_of_the_host(cloned: Cloned, tmp_path: Path) -> None:
    """Such as one that another guest has made in a live mount of the same directory."""
    (tmp_path / "outside").mkdir()
    (cloned.host / "new").symlink_to(tmp_path / "outside")
    (cloned.host / "b").unlink()
    (cloned.host / "b").symlink_to(tmp_path / "outside/target")
    write(cloned.guest, {"new/file": "n", "b": "B"})
    assert actions(plan(cloned)) == {"b": "conflict", "new/file": "refused"}
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_link_that_is_put_there_after_the_plan(cloned: Cloned, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    write(cloned.guest, {"d/only": "changed"})
    steps = plan(cloned)
    (cloned.host / "d").rename(tmp_path / "moved")
    (cloned.host / "d").symlink_to(tmp_path / "outside")
    with Host(str(cloned.host)) as host, pytest.raises(EngineError, match="nothing was applied"):
        carry_out(host, steps)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_file_that_is_changed_after_the_plan(cloned: Cloned) -> None:
    write(cloned.guest, {"a.py": "A", "b": "B"})
    steps = plan(cloned)
    write(cloned.host, {"b": "edited meanwhile"})
    with Host(str(cloned.host)) as host, pytest.raises(EngineError, match=r"nothing was applied: b: it was changed"):
        carry_out(host, steps)
    assert (cloned.host / "b").read_text() == "edited meanwhile"
    assert (cloned.host / "a.py").read_text() == "1\n2\n3\n4\n5\n", "the one before it was moved back"
    assert not list(cloned.host.rglob(f"{PREFIX}*"))


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_file_that_becomes_a_directory_after_the_plan(
    cloned: Cloned, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(applying, "exchange", lambda *args, **more: False)
    write(cloned.guest, {"a.py": "A", "b": "B"})
    steps = plan(cloned)
    (cloned.host / "b").unlink()
    write(cloned.host, {"b/mine": "m"})
    with Host(str(cloned.host)) as host, pytest.raises(EngineError, match="nothing was applied: b: it was changed"):
        carry_out(host, steps)
    assert (cloned.host / "b/mine").read_text() == "m" and (cloned.host / "a.py").read_text() == "1\n2\n3\n4\n5\n"
    assert not list(cloned.host.rglob(f"{PREFIX}*"))


@pytest.mark.parametrize("can_exchange", [True, False])
def test_what_somebody_writes_before_all_is_moved_back_stays(
    cloned: Cloned, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(applying, "exchange", lambda *args, **more: False)
    write(cloned.guest, {"a.py": "A", "b": "B", "c": "C"})
    (cloned.guest / "d/only").unlink()
    steps = plan(cloned)
    ticks = iter(range(4))

    def tick() -> None:
        if next(ticks) == 3:
            write(cloned.host, {"a.py": "of the user", "c": "of the user"})
            raise KeyboardInterrupt

    with Host(str(cloned.host)) as host, pytest.raises(KeyboardInterrupt):
        carry_out(host, steps, tick)
    assert (cloned.host / "a.py").read_text() == (cloned.host / "c").read_text() == "of the user"
    assert (cloned.host / "b").read_text() == "b" and (cloned.host / "d/only").read_text() == "o"


def test_what_cannot_be_moved_back_is_kept_and_told(cloned: Cloned, monkeypatch: pytest.MonkeyPatch) -> None:
    write(cloned.guest, {"b": "B"})
    steps = plan(cloned)
    (cloned.host / "b").unlink()
    write(cloned.host, {"b/mine": "m"})
    once = iter([applying.exchange])

    def exchange(*args: str, **more: int) -> bool:
        real = next(once, None)
        if real is None:
            raise OSError(5, "the disk is broken")
        return real(*args, **more)

    monkeypatch.setattr(applying, "exchange", exchange)
    with Host(str(cloned.host)) as host, pytest.raises(EngineError, match="nothing was applied") as raised:
        carry_out(host, steps)
    (beside,) = cloned.host.glob(f"{PREFIX}*")
    assert (beside / "mine").read_text() == "m" and beside.name in str(raised.value.details)


def test_an_interruption_leaves_all_as_it_was(cloned: Cloned) -> None:
    write(cloned.guest, {"a.py": "A", "b": "B", "new": "n"})
    steps = plan(cloned)
    ticks = iter(range(10))

    def tick() -> None:
        if next(ticks) == 2:
            raise KeyboardInterrupt

    with Host(str(cloned.host)) as host, pytest.raises(KeyboardInterrupt):
        carry_out(host, steps, tick)
    assert cloned.git("status", "--porcelain") == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_directory_without_permission(cloned: Cloned) -> None:
    write(cloned.guest, {"a.py": "A", "d/only": "changed"})
    (cloned.host / "d").chmod(0o500)
    try:
        with Host(str(cloned.host)) as host, pytest.raises(EngineError, match="Permission denied"):
            carry_out(host, plan(cloned))
    finally:
        (cloned.host / "d").chmod(0o700)
    assert (cloned.host / "a.py").read_text() == "1\n2\n3\n4\n5\n"


def test_a_directory_in_the_place_of_a_file(cloned: Cloned) -> None:
    (cloned.host / "b").unlink()
    (cloned.host / "b").mkdir()
    write(cloned.guest, {"b": "B"})
    assert actions(plan(cloned)) == {"b": "refused"}
