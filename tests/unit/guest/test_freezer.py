"""Which control groups are frozen, and that they go on."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmm.guest.guestd import freezer
from vmm.guest.guestd.failure import Failure

OWN = "0::/system.slice/sandbox-guestd.service"


def group(root: Path, name: str, *pids: int, frozen: bool = False) -> Path:
    directory = root / name
    directory.mkdir(parents=True)
    (directory / "cgroup.freeze").write_text("1" if frozen else "0")
    (directory / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    return directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    group(tmp_path, "init.scope", 1)
    group(tmp_path, "user.slice", 300)
    group(tmp_path, "system.slice")
    group(tmp_path, "system.slice/docker.service", 200)
    group(tmp_path, "system.slice/systemd-journald.service", 203)
    group(tmp_path, "system.slice/docker-runs.scope", 202)
    empty = group(tmp_path, "system.slice/tmp.mount")
    (empty / "cgroup.events").write_text("populated 0\nfrozen 0\n")
    group(tmp_path, "system.slice/docker-paused.scope", 201, frozen=True)
    group(tmp_path, "system.slice/sandbox-guestd.service", os.getpid(), 400)
    group(tmp_path, "system.slice/sandbox-guestd.service/started", 401)
    return tmp_path


def test_all_groups_but_those_of_the_image_and_the_paused(root: Path) -> None:
    found = [Path(path).relative_to(root) for path in freezer.other_groups(OWN, str(root))]
    assert [str(path) for path in found] == [
        "user.slice", "system.slice/docker-runs.scope", "system.slice/sandbox-guestd.service/started",
    ]  # fmt: skip
    started = root / "system.slice/sandbox-guestd.service/started"
    assert (started / "cgroup.procs").read_text() == "400", "what guestd has started, and not guestd"


def test_a_group_that_a_program_of_guestd_has_made_beside_its_own(root: Path) -> None:
    """As a runc without systemd does: guestd's group was that program's own."""
    group(root, "system.slice/sandbox-guestd.service/runc-abc", 500)
    group(root, "system.slice/sandbox-guestd.service/runc-paused", 501, frozen=True)
    ended = group(root, "system.slice/sandbox-guestd.service/runc-ended")
    (ended / "cgroup.events").write_text("populated 0\nfrozen 0\n")
    found = [Path(path).name for path in freezer.other_groups(OWN, str(root))]
    assert found == ["user.slice", "docker-runs.scope", "runc-abc", "started"]


@pytest.mark.parametrize("own", ["0::/", "0::/user.slice/session-1.scope", ""])
def test_nothing_is_frozen_where_there_is_no_guest(root: Path, own: str) -> None:
    with pytest.raises(Failure, match="no control group of its own"):
        list(freezer.other_groups(own, str(root)))


def test_this_host_is_not_frozen() -> None:
    with pytest.raises(Failure):
        freezer.freeze({}, threading.Event())


@pytest.fixture
def frozen(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A guest with these groups, whose guestd is this process; nothing is frozen or to be thawed afterwards."""
    (tmp_path / "own").write_text(f"{OWN}\n")
    monkeypatch.setattr(freezer, "GROUPS", str(root))
    monkeypatch.setattr(freezer, "OWN", str(tmp_path / "own"))
    monkeypatch.setattr(freezer, "NOTED", str(tmp_path / "noted" / "frozen"))
    yield root
    freezer.thaw()


def states(root: Path) -> list[str]:
    names = ("user.slice", "system.slice/docker-runs.scope", "system.slice/docker-paused.scope")
    return [(root / name / "cgroup.freeze").read_text() for name in names]


def test_what_is_frozen_goes_on_and_a_paused_container_stays_paused(frozen: Path) -> None:
    assert freezer.freeze({}, threading.Event()) == {"groups": 3, "frozen": True}
    assert states(frozen) == ["1", "1", "1"]
    freezer.thaw()
    assert states(frozen) == ["0", "0", "1"] and not Path(freezer.NOTED).exists()


def test_what_is_frozen_already_is_frozen_anew(frozen: Path) -> None:
    """By a fork whose source has not been thawed yet: the next one has all of its programs stand still, too."""
    freezer.freeze({}, threading.Event())
    assert freezer.freeze({}, threading.Event()) == {"groups": 3, "frozen": True}
    assert states(frozen) == ["1", "1", "1"]
    freezer.thaw()
    assert states(frozen) == ["0", "0", "1"]


def test_what_nobody_waits_for_any_more_freezes_nothing(frozen: Path) -> None:
    """The host has given it up and had the programs thawed before it came to its turn: nobody would thaw them again."""
    cancelled, answers = threading.Event(), list[object]()
    thread = threading.Thread(target=lambda: answers.append(freezer.freeze({}, cancelled)))
    with freezer._lock:
        thread.start()
        cancelled.set()
    thread.join(30)
    assert answers == [{"groups": 0, "frozen": False}]
    assert states(frozen) == ["0", "0", "1"] and freezer._timer is None and not Path(freezer.NOTED).exists()


def test_nobody_waits_for_what_is_given_up(frozen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezer, "FROZEN_S", 300.0)
    (frozen / "user.slice" / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    cancelled, answers = threading.Event(), list[object]()
    thread = threading.Thread(target=lambda: answers.append(freezer.freeze({}, cancelled)), daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while states(frozen)[:2] != ["1", "1"] and time.monotonic() < until:
        time.sleep(0.01)
    cancelled.set()
    thread.join(20)
    assert answers == [{"groups": 3, "frozen": False}]


def test_it_goes_on_by_itself_when_nobody_says_so(frozen: Path) -> None:
    freezer.freeze({"thaw_s": 0.05}, threading.Event())
    timer = freezer._timer
    assert timer is not None
    timer.join(30)
    assert states(frozen) == ["0", "0", "1"] and not Path(freezer.NOTED).exists()


def test_a_guestd_that_starts_thaws_what_one_before_it_has_frozen(
    frozen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freezer.freeze({}, threading.Event())
    before = freezer._timer
    assert before is not None
    before.cancel()
    monkeypatch.setattr(freezer, "_timer", None)
    freezer.thaw()
    assert states(frozen) == ["0", "0", "1"]


def test_it_does_not_wait_for_ever_for_what_cannot_be_frozen(frozen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezer, "FROZEN_S", 0.01)
    (frozen / "user.slice" / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    assert freezer.freeze({}, threading.Event()) == {"groups": 3, "frozen": False}
    freezer.thaw()
