"""The weight of a sandbox's processes: in a control group where there may be one, else by their priority."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmm import processor_share
from vmm.processor_share import NICE_WEIGHTS, Kept, NoGroup, ProcessorShare, find_place, look, nice_of, sweep

WEIGHS = Path("/proc/sys/kernel/sched_autogroup_enabled")


class Tree:
    """A host's control groups and /proc, as plain files. `own` is the group that this process is in."""

    def __init__(self, base: Path, own: str = "user.slice/app.slice/term.scope", root: str = "/") -> None:
        self.proc, self.top = base / "proc", base / "cgroup"
        self.own = self.top / own
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self/cgroup").write_text(f"1:name=systemd:/x\n0::/{own}\n")
        (self.proc / "self/mountinfo").write_text(
            f"30 1 0:26 {root} /sys/fs/cgroup/unified rw shared:4 - cgroup none rw\n"
            f"31 1 0:27 {root} {self.top} rw,nosuid shared:5 - cgroup2 cgroup2 rw\n"
        )
        self.group(self.own)
        for group in self.own.parents:
            if group == base:
                break
            self.group(group, subtree="cpu memory" if group != self.own.parent else "memory")

    def group(self, path: Path, controllers: str = "cpu memory pids", subtree: str = "") -> Path:
        path.mkdir(parents=True, exist_ok=True)
        for name, text in (("controllers", controllers), ("subtree_control", subtree), ("procs", "")):
            (path / f"cgroup.{name}").write_text(f"{text}\n")
        return path

    def share(self, name: str = "ab-shop") -> ProcessorShare:
        return ProcessorShare(name, self.proc)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture(autouse=True)
def priority(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What would have become of our own priority."""
    asked: list[int] = []
    monkeypatch.setattr(os, "getpriority", lambda which, who: 0)
    monkeypatch.setattr(os, "setpriority", lambda which, who, nice: asked.append(nice))
    return asked


def deny(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) not in paths)


def test_a_group_beside_ours_has_the_weight_and_is_left_and_removed(tree: Tree, priority: list[int]) -> None:
    group, share = tree.own.parent / "sandbox-ab-shop", tree.share()
    assert look(50, tree.proc) == Kept("group") and not group.exists(), "to look changes nothing"
    assert share.set(50) is None
    assert (group / "cpu.weight").read_text() == "50" and (group / "cgroup.procs").read_text() == str(os.getpid())
    assert (tree.own.parent / "cgroup.subtree_control").read_text() == "+cpu"
    assert share.set(200) is None and (group / "cpu.weight").read_text() == "200"
    for file in group.iterdir():  # the kernel's go with the directory
        file.unlink()
    share.close()
    assert not group.exists() and (tree.own / "cgroup.procs").read_text() == str(os.getpid())
    assert priority == []
    share.close()


def test_all_of_its_processes_are_in_it(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that begins while others are moved."""
    me = os.getpid()
    moved: list[int] = []
    for pid, parent in ((me, 1), (7, me), (8, 7), (9, 1)):
        (tree.proc / str(pid)).mkdir()
        (tree.proc / f"{pid}/stat").write_text(f"{pid} (a ) b (c) S {parent} 0 0")

    def move(pid: int, group: Path) -> None:
        moved.append(pid)
        if pid == 8:
            (tree.proc / "10").mkdir(exist_ok=True)
            (tree.proc / "10/stat").write_text(f"10 (late) S {me} 0 0")

    monkeypatch.setattr(processor_share, "_move", move)
    assert tree.share().set(50) is None
    assert moved == [me, 7, 8, 10], "ourselves first: what we start from then on is in it"


def test_the_default_makes_no_group(tree: Tree, priority: list[int]) -> None:
    share = tree.share()
    assert share.set(100) is None and look(100, tree.proc) == Kept("nothing")
    share.close()
    assert not list(tree.top.rglob("sandbox-*")) and priority == []


def test_a_group_far_above_is_taken_where_the_near_ones_are_closed(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, tree.own.parent)
    assert find_place(tree.proc).parent == tree.own.parent.parent
    deny(monkeypatch, tree.own.parent / "cgroup.subtree_control", tree.own.parent.parent / "cgroup.procs")
    assert find_place(tree.proc).parent == tree.top
    (tree.own.parent / "cgroup.subtree_control").write_text("cpu")  # somebody has passed it on
    assert find_place(tree.proc).parent == tree.own.parent


def test_a_group_with_processes_passes_nothing_on_but_the_topmost(tmp_path: Path) -> None:
    """A container sees its own group as the topmost one: there is none above it."""
    tree = Tree(tmp_path, own="")
    with pytest.raises(NoGroup, match="may not make control groups"):
        find_place(tree.proc)
    (tree.own / "cgroup.subtree_control").write_text("cpu io")
    assert find_place(tree.proc).parent == tree.top


@pytest.mark.parametrize("name", processor_share.LIMITS)
@pytest.mark.parametrize("where", [0, 1])
def test_limits_of_the_groups_that_it_would_leave_are_kept(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, name: str, where: int
) -> None:
    group = (tree.own, tree.own.parent)[where]
    deny(monkeypatch, tree.own.parent)
    (group / name).write_text({"cpu.max": "max 100000\n", "io.max": "", "cpuset.cpus": "\n"}.get(name, "max\n"))
    (tree.top / "user.slice" / name).write_text("50000 100000\n")
    assert find_place(tree.proc).parent == tree.top / "user.slice", "its limits hold for the new group, too"
    (group / name).write_text("50000 100000\n")
    with pytest.raises(NoGroup, match=f"would leave the limit {name} of {group.name}"):
        find_place(tree.proc)
    assert look(50, tree.proc).by == "priority"


def test_who_stops_a_service_ends_what_it_has_started(tmp_path: Path) -> None:
    tree = Tree(tmp_path, own="system.slice/runner.service")
    with pytest.raises(NoGroup, match=r"end with runner\.service"):
        find_place(tree.proc)


def test_a_group_in_another_part_of_the_tree_is_swept(tree: Tree) -> None:
    """A sandbox of a desktop's terminal was killed, and `down` comes by ssh."""
    far = tree.top / "user.slice/user@1000.service/app.slice/sandbox-ab-shop"
    far.mkdir(parents=True)
    sweep("ab-", tree.proc)
    assert not far.exists() and far.parent.exists()


def test_a_mount_of_a_part_of_the_tree(tmp_path: Path) -> None:
    tree = Tree(tmp_path, own="me/scope", root="/container")
    (tree.proc / "self/cgroup").write_text("0::/container/me/scope\n")
    assert find_place(tree.proc) == (processor_share.Place(tree.top / "me", tree.top / "me/scope"))
    (tree.proc / "self/cgroup").write_text("0::/elsewhere\n")
    with pytest.raises(NoGroup, match="not to be seen"):
        find_place(tree.proc)


@pytest.mark.parametrize("broken", ["cgroup", "mountinfo", "no group v2", "no controller", "all closed"])
def test_without_a_group_the_priority_stands_for_it(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, priority: list[int], broken: str
) -> None:
    if broken in ("cgroup", "mountinfo"):
        (tree.proc / "self" / broken).unlink()
    elif broken == "no group v2":
        (tree.proc / "self/cgroup").write_text("4:cpu:/\n")
    elif broken == "no controller":
        for file in tree.top.rglob("cgroup.controllers"):
            file.write_text("memory hugetlb")
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    (tree.proc / f"{os.getpid()}/task/77").mkdir(parents=True)
    kept, share = look(50, tree.proc), tree.share()
    said = share.set(50)
    assert kept.by == "priority" and said == kept.warning and said and "nice 3" in said
    assert priority == [3]
    assert share.set(50) == said and priority == [3]
    high = look(200, tree.proc)
    assert high.by == "nothing" and high.warning and "no effect" in high.warning
    assert tree.share().set(200) == high.warning and priority == [3]
    share.close()
    sweep("ab-", tree.proc)


def test_what_fails_on_the_way_leaves_no_group(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, priority: list[int]
) -> None:
    """The kernel may refuse what looked possible: the weight of a group, or a process of somebody else's."""
    (tree.proc / f"{os.getpid()}/task/77").mkdir(parents=True)
    group = tree.own.parent / "sandbox-ab-shop"

    def refuse(pid: int, into: Path) -> None:
        assert into == group
        (group / "cpu.weight").unlink()
        raise PermissionError(13, "Permission denied", str(group / "cgroup.procs"))

    monkeypatch.setattr(processor_share, "_move", refuse)
    said = tree.share().set(50)
    assert said and "cgroup.procs: Permission denied" in said and "nice 3" in said and priority == [3]
    assert not group.exists()


def test_a_group_that_was_removed_meanwhile_is_made_again(tree: Tree) -> None:
    group, share = tree.own.parent / "sandbox-ab-shop", tree.share()
    share.set(50)
    for file in group.iterdir():
        file.unlink()
    group.rmdir()
    assert share.set(60) is None and (group / "cpu.weight").read_text() == "60"
    share.close()  # in a tree of plain files it is not empty
    assert group.exists()


def test_a_sweep_in_the_moment_before_the_first_process(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    real, swept = Path.mkdir, []

    def mkdir(path: Path, *args: object, **options: bool) -> None:
        real(path, exist_ok=True)
        if not swept:
            swept.append(path)
            sweep("ab-", tree.proc)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert tree.share().set(50) is None and swept
    assert (tree.own.parent / "sandbox-ab-shop/cpu.weight").read_text() == "50"


def test_only_empty_groups_of_this_state_are_swept(tree: Tree) -> None:
    for name in ("sandbox-ab-one", "sandbox-ab-two", "sandbox-cd-one", "other"):
        (tree.own.parent / name).mkdir()
    (tree.own.parent / "sandbox-ab-two" / "in-use").write_text("")
    (tree.top / "sandbox-ab-far").mkdir()
    sweep("ab-", tree.proc)
    assert {path.name for path in tree.top.rglob("*") if path.is_dir()} >= {"sandbox-ab-two", "sandbox-cd-one", "other"}
    assert not list(tree.top.rglob("sandbox-ab-one")) and not list(tree.top.rglob("sandbox-ab-far"))


def test_the_nearest_priority() -> None:
    assert [nice_of(weight) for weight in (10000, 100, 80, 64, 50, 41, 10, 1)] == [0, 0, 1, 2, 3, 4, 10, 19]
    assert len(NICE_WEIGHTS) == 20 and sorted(NICE_WEIGHTS, reverse=True) == list(NICE_WEIGHTS)


@pytest.mark.parametrize(("begun", "expected"), [(5, 8), (18, 19)])
def test_a_priority_comes_on_top_of_the_one_that_it_was_started_with(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, priority: list[int], begun: int, expected: int
) -> None:
    (tree.proc / f"{os.getpid()}/task/77").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(os, "getpriority", lambda which, who: begun)
    tree.share().set(50)
    assert priority == [expected]


def test_a_priority_is_raised_by_nobody_but_root(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.proc / f"{os.getpid()}/task/77").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    share = tree.share()
    share.set(25)

    def refuse(which: int, who: int, nice: int) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "setpriority", refuse)
    said = share.set(100)
    assert said and "needs a new machine" in said and "nice 6" in said


REAL = """
import os, subprocess, sys
from pathlib import Path
from vmm import processor_share
from vmm.processor_share import NoGroup, ProcessorShare
def no(proc): raise NoGroup("none here")
processor_share.find_place = no
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
share = ProcessorShare("x")
def seen():
    found = []
    for pid in (os.getpid(), child.pid):
        session = Path(f"/proc/{pid}/autogroup")
        nice = os.getpriority(os.PRIO_PROCESS, pid) - base
        found.append((nice, session.read_text().split()[-1] if session.exists() else str(nice)))
    return found
base = os.getpriority(os.PRIO_PROCESS, 0)
before = seen()
share.set(50)
print(before, seen())
child.kill()
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's priorities")
def test_the_kernel_has_the_priority_of_each_process_and_session() -> None:
    argv = [sys.executable, "-c", REAL]
    done = subprocess.run(argv, capture_output=True, text=True, start_new_session=True, timeout=60)
    assert done.stdout.strip().endswith("[(3, '3'), (3, '3')]"), (done.stdout, done.stderr)


@pytest.fixture
def real_group() -> Iterator[Path]:
    """The one that we are in, where a group below it may be made, although it has no weight."""
    try:
        now, top = processor_share._own_group(Path("/proc"))
    except NoGroup as error:
        pytest.skip(error.brief)
    if os.geteuid() != 0 or now != top or not os.access(now / "cgroup.procs", os.W_OK):
        pytest.skip("no control groups can be made here")
    yield now
    (now / "cgroup.procs").write_text(str(os.getpid()))
    sweep("test-", Path("/proc"))
    assert not list(now.glob("sandbox-test-*"))


def test_a_real_group_is_entered_left_and_swept(real_group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the weight, for which the host has to have its controller there."""
    monkeypatch.setattr(processor_share, "find_place", lambda proc: processor_share.Place(real_group, real_group))
    real = processor_share._make
    monkeypatch.setattr(processor_share, "_make", lambda group, weight: group.mkdir(exist_ok=True))
    monkeypatch.setattr(processor_share, "_words", lambda path: ["cpu"])
    group, share = real_group / "sandbox-test-1", ProcessorShare("test-1")
    assert share.set(50) is None
    members = (group / "cgroup.procs").read_text().split()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert str(os.getpid()) in members and str(child.pid) in (group / "cgroup.procs").read_text().split()
    share.close()
    assert group.exists() and (group / "cgroup.procs").read_text().split() == [str(child.pid)], "it is still in it"
    sweep("test-", Path("/proc"))
    assert group.exists()
    child.communicate()
    sweep("test-", Path("/proc"))
    assert not group.exists()
    if not (real_group / "cpu.weight").exists():
        with pytest.raises(OSError):
            real(group, 50)
