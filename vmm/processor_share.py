"""How much of this host's processors the processes of a sandbox get when others want them, too: `machine.cpu_weight`.

Where the user may make a group of control group v2 with the processor's controller, they are in one, with that weight
(Documentation/admin-guide/cgroup-v2.rst). Elsewhere their priority (nice) stands for a weight below the default; above
it there is nothing that an ordinary user may have.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from vmm.errors import VmmError

DEFAULT = 100  # of every group, and of whoever has none
# kernel/sched/core.c, sched_prio_to_weight: what nice 0 to 19 weigh. Nice 0 is as much as a group of weight 100.
NICE_WEIGHTS = (1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87, 70, 56, 45, 36, 29, 23, 18, 15)
PREFIX = "sandbox-"
NICE_MOST = 19
TRIES = 3
LOOKS_MOST = 100  # at a family that grows meanwhile
AGAIN, AGAIN_S = 40, 0.05  # the kernel takes a priority of a session from an ordinary user ten times a second
PROC = Path("/proc")
# Who is moved out of a group leaves its limits. All that is not one of these two is a limit that somebody has set.
LIMITS = ("memory.max", "memory.high", "memory.swap.max", "cpu.max", "cpuset.cpus", "cpuset.mems", "io.max")
UNLIMITED = ("", "max")

By = Literal["group", "priority", "nothing"]


class NoGroup(VmmError):
    """This user cannot have a group with a weight here: `brief` says why."""


class Kept(NamedTuple):
    """By what a weight is kept on this host, and a sentence where that is less than the file asks for."""

    by: By
    warning: str | None = None


@dataclass(frozen=True)
class Place:
    """Where a group can be made: in `parent`. `now` is the group that we are in."""

    parent: Path
    now: Path


def nice_of(weight: int) -> int:
    """The priority that comes nearest to a weight, from 0 (100 and more) to 19 (1)."""
    return min(range(len(NICE_WEIGHTS)), key=lambda nice: abs(math.log(NICE_WEIGHTS[nice] / 1024 * DEFAULT / weight)))


def look(weight: int, proc: Path = PROC) -> Kept:
    """What will come of a weight here. Changes nothing."""
    if weight == DEFAULT:
        return Kept("nothing")
    try:
        find_place(proc)
    except NoGroup as error:
        return _without_group(weight, error.brief)
    return Kept("group")


def _without_group(weight: int, why: str) -> Kept:
    if weight > DEFAULT:
        what = f"has no effect: without a group, nothing gives it more than others ({why})"
        return Kept("nothing", f"machine.cpu_weight: {weight} {what}")
    what = f"is kept by the priority of its processes (nice {nice_of(weight)}), as this host gives it no group: {why}"
    return Kept("priority", f"machine.cpu_weight: {weight} {what}")


def find_place(proc: Path = PROC) -> Place:
    """The nearest group above ours in which we may make one that has a weight.

    Raises NoGroup, also where we would leave limits that our own group has, or a service: who stops that ends us.
    """
    now, top = _own_group(proc)
    why = "no control group above it has the processor's controller"
    for parent in (now, *now.parents):
        if "cpu" in _words(parent / "cgroup.controllers"):
            why = "its user may not make control groups there"
            enabled = "cpu" in _words(parent / "cgroup.subtree_control")
            # A group with processes of its own can pass no controller on, but for the one above all others.
            if (enabled or parent != now) and _writable(parent, enabled):
                return Place(parent, now)
        _check_leaving(parent)
        if parent == top:
            break
    raise NoGroup(why)


def _check_leaving(group: Path) -> None:
    """Raises NoGroup where what is in this group is to stay in it."""
    if group.name.endswith(".service"):
        raise NoGroup(f"it is to end with {group.name}, which it would leave")
    for name in LIMITS:
        if "".join(_words(group / name)[:1]) not in UNLIMITED:
            raise NoGroup(f"it would leave the limit {name} of {group.name}")


def _own_group(proc: Path) -> tuple[Path, Path]:
    """The directory of the group of control group v2 that we are in, and the one of the topmost that we see."""
    try:
        groups = (proc / "self/cgroup").read_text().splitlines()
        mounts = [line.split() for line in (proc / "self/mountinfo").read_text().splitlines()]
    except OSError as error:
        raise NoGroup("this system has no control groups") from error
    own = next((line[3:] for line in groups if line.startswith("0::")), None)
    # proc_pid_mountinfo(5): the root within the file system, where it is mounted, and after a dash its type.
    roots = [(words[3], words[4]) for words in mounts if words[words.index("-") + 1] == "cgroup2"]
    if own is None or not roots:
        raise NoGroup("this host has no control group v2")
    for root, place in roots:
        within = os.path.relpath(own, root)
        if not within.startswith(".."):
            return Path(place) / within, Path(place)
    raise NoGroup("the control group that it is in is not to be seen")


def _writable(parent: Path, enabled: bool) -> bool:
    wanted = (parent, parent / "cgroup.procs", *(() if enabled else (parent / "cgroup.subtree_control",)))
    return all(os.access(path, os.W_OK) for path in wanted)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


class ProcessorShare:
    """The weight of this process and of all that it has started and starts, under `name`, for as long as it lives."""

    def __init__(self, name: str, proc: Path = PROC) -> None:
        self._name = f"{PREFIX}{name}"
        self._proc = proc
        self._place: Place | None = None
        self._nice = 0
        self._base = os.getpriority(os.PRIO_PROCESS, 0)  # what we were started with stays, and ours comes on top
        self._why = ""  # there is no group, for as long as this lives

    def set(self, weight: int) -> str | None:
        """Have this weight from now on. Returns a sentence where that is not, or not wholly, possible.

        Blocks for some milliseconds; without a group for up to AGAIN * AGAIN_S seconds for each of its processes.
        """
        if self._place is None and weight == DEFAULT and not self._why:
            return None
        try:
            if not self._why:
                self._enter(weight)
                return None
        except NoGroup as error:
            self._why = error.brief
        except OSError as error:
            self._why = f"{error.filename or 'a control group'}: {error.strerror}"
        try:
            self._lower(nice_of(weight))
        except OSError:
            return (
                f"machine.cpu_weight: {weight} needs a new machine: nobody but root may raise a priority, and the"
                f" processes keep nice {self._nice}; `sandbox up --recreate` starts them anew"
            )
        return _without_group(weight, self._why).warning if weight != DEFAULT else None

    def close(self) -> None:
        """Leave the group, and remove it. What others are still in is left to `sweep`."""
        if self._place is None:
            return
        with contextlib.suppress(OSError):  # where we were may be gone
            (self._place.now / "cgroup.procs").write_text(str(os.getpid()))
        with contextlib.suppress(OSError):
            (self._place.parent / self._name).rmdir()
        self._place = None

    def _enter(self, weight: int) -> None:
        """Raises NoGroup, OSError; nothing is left of the group then."""
        place = self._place or find_place(self._proc)
        group = place.parent / self._name
        if "cpu" not in _words(place.parent / "cgroup.subtree_control"):
            (place.parent / "cgroup.subtree_control").write_text("+cpu")
        try:
            _make(group, weight)
            # Ourselves first: whoever is started from now on is in it.
            self._for_each(lambda pid: _move(pid, group))
        except OSError:
            with contextlib.suppress(OSError):
                (place.now / "cgroup.procs").write_text(str(os.getpid()))
            with contextlib.suppress(OSError):
                group.rmdir()
            self._place = None
            raise
        self._place = place

    def _lower(self, nice: int) -> None:
        """Raises OSError; some of the processes may have it by then."""
        if nice == self._nice:
            return
        sessions: set[str] = set()

        def lower(pid: int) -> None:
            done: set[int] = set()
            while new := set(_entries(self._proc / f"{pid}/task")) - done:  # a thread may begin meanwhile
                for thread in new:
                    with contextlib.suppress(ProcessLookupError):
                        os.setpriority(os.PRIO_PROCESS, thread, min(NICE_MOST, self._base + nice))
                done |= new
            _lower_session(self._proc / f"{pid}/autogroup", nice, sessions)

        self._for_each(lower)
        self._nice = nice

    def _for_each(self, act: Callable[[int], None]) -> None:
        """Do it to us and to all below us, also to those that begin meanwhile."""
        known: set[int] = set()
        for _ in range(LOOKS_MOST):
            new = [pid for pid in _family(os.getpid(), self._proc) if pid not in known]
            if not new:
                return
            for pid in new:
                known.add(pid)
                act(pid)


def sweep(prefix: str, proc: Path = PROC) -> None:
    """Remove the groups of sandboxes whose name begins with `prefix` and that nobody is in any more."""
    try:
        _, top = _own_group(proc)
    except NoGroup:
        return
    # Everywhere: whoever made it may have been in another part of the tree, as a desktop is for who comes by ssh.
    for parent, below, _ in os.walk(top):
        for name in below:
            if name.startswith(f"{PREFIX}{prefix}"):
                with contextlib.suppress(OSError):  # whoever is in it keeps it
                    Path(parent, name).rmdir()


def _make(group: Path, weight: int) -> None:
    for left in range(TRIES, -1, -1):
        try:
            group.mkdir(exist_ok=True)
            (group / "cpu.weight").write_text(str(weight))
            return
        except FileNotFoundError:  # somebody sweeps, and it was empty
            if not left:
                raise


def _move(pid: int, group: Path) -> None:
    try:
        with (group / "cgroup.procs").open("w") as file:
            file.write(str(pid))
    except ProcessLookupError:  # it has ended
        return


def _lower_session(autogroup: Path, nice: int, known: set[str]) -> None:
    """That of its session, where the kernel weighs those (CONFIG_SCHED_AUTOGROUP): its own counts within that."""
    try:
        session = autogroup.read_text().split()[0]
        if session in known:
            return
        for _ in range(AGAIN):
            try:
                autogroup.write_text(str(nice))
                break
            except BlockingIOError:
                time.sleep(AGAIN_S)
        known.add(session)
    except (OSError, IndexError):
        return  # this kernel has none, or it has ended


def _family(pid: int, proc: Path) -> list[int]:
    """It and all that it, or one of them, has started, the eldest first."""
    parents = {one: parent for one in _entries(proc) if (parent := _parent(one, proc)) is not None}
    found = [pid]
    for one in found:  # which grows
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _parent(pid: int, proc: Path) -> int | None:
    try:
        # pid (comm) state ppid ...: comm may hold anything, so count from the last bracket.
        return int((proc / f"{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _entries(directory: Path) -> list[int]:
    """The numbers among its entries."""
    try:
        return [int(name) for name in os.listdir(directory) if name.isdigit()]  # noqa: PTH208
    except OSError:
        return []
