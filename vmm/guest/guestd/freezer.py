"""Stopping the guest's programs, all but those of the image itself, for the moment in which the machine becomes two.

What two machines have in common when they part is in both: so no program may draw a random number, or look at the
clock, before its machine has its own. The host has the programs frozen before it writes the machine, and `identity`
thaws them where one of the machines has been made its own. Root in the guest may thaw them sooner, and only harms
itself.

The control groups are those of version 2: a group with all groups below it stands still while its `cgroup.freeze` says
1, and its `cgroup.events` says when all of its processes do (Documentation/admin-guide/cgroup-v2.rst of Linux).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

from .failure import Failure, Json
from .system import read_text

GROUPS, UNIT = "/sys/fs/cgroup", "sandbox-guestd.service"
# Daemons of the image: they draw nothing that is to be secret, and have sixty threads that would have to be woken.
SPARED = ("init.scope", "containerd.service", "dbus.service", "docker.service", "sandbox-dns.service", "systemd-")
STARTED = "started"  # below the group of guestd: what was started by it
OWN = "/proc/self/cgroup"  # says in which group guestd is
NOTED = "/run/sandbox/frozen"  # the groups that are frozen by us, for whoever comes after this process
MOVES_MOST = 20  # looks at guestd's group, in which new processes may begin meanwhile
FROZEN_S, LOOK_S = 4.0, 0.002  # on a busy host an emulated guest needs seconds
THAW_S = 10.0  # what nobody has thawed by then, nobody will

_lock = threading.Lock()
_timer: threading.Timer | None = None


def freeze(request: Json, cancelled: threading.Event) -> Json:
    """Freeze all programs that are not frozen already: {groups: how many, frozen: whether all stood still in time}.

    Waits up to FROZEN_S for them to stand still; {thaw_s} later they go on by themselves. One that is cancelled before
    its turn freezes nothing. Raises Failure outside of a guest.
    """
    global _timer
    with _lock:
        _thaw()  # first: what is frozen by us is not listed, and would go on
        if cancelled.is_set():  # who has done so has thawed already, maybe, and will not again
            return {"groups": 0, "frozen": False}
        groups = list(other_groups(read_text(OWN), GROUPS))
        os.makedirs(os.path.dirname(NOTED), exist_ok=True)
        with open(NOTED, "w", encoding="utf-8") as file:
            file.writelines(f"{group}\n" for group in groups)
        _timer = threading.Timer(float(request.get("thaw_s") or THAW_S), thaw)
        _timer.daemon = True
        _timer.start()
        for group in groups:
            _write(group, "1")
    return {"groups": len(groups), "frozen": _stand_still(groups, cancelled)}


def go_on(request: Json, cancelled: threading.Event) -> Json:
    """`thaw`, when the host asks for it."""
    thaw()
    return {}


def thaw() -> None:
    """Let go on what `freeze` has stopped, in this process or in one before it. Nothing where nothing is."""
    with _lock:
        _thaw()


def _thaw() -> None:
    global _timer
    if _timer is not None:
        _timer.cancel()
        _timer = None
    if groups := read_text(NOTED).splitlines():
        for group in groups:
            _write(group, "0")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(NOTED)


def other_groups(own: str, root: str) -> Iterator[str]:
    """The groups of all programs that run, but for those of the image; what guestd has started is moved into one of its
    own first. `own` is what OWN says. Raises Failure."""
    parts = own.rpartition("::")[2].strip("/").split("/")
    if parts[-1] != UNIT:
        raise Failure("guestd has no control group of its own here")
    directory = root
    for part in parts:
        yield from (path for name, path in _with_programs(directory, SPARED) if name != part)
        directory = os.path.join(directory, part)
    started = os.path.join(directory, STARTED)
    os.makedirs(started, exist_ok=True)
    _move_others(directory, started)
    # More than that one: what was started here may have made groups beside its own, as a runc without systemd does.
    yield from (path for _, path in _with_programs(directory))


def _with_programs(directory: str, but: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Names and paths of the groups right below it that have programs, but for names that begin with one of `but`."""
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if not entry.name.startswith(but) and _has_programs(entry.path):
            yield entry.name, entry.path


def _move_others(source: str, target: str) -> None:
    """A process that is about to start another one may do so meanwhile: looks until there is none."""
    for _ in range(MOVES_MOST):
        # Who starts a program as root holds up all our threads until it runs: none of these is on its way to that.
        others = [pid for pid in read_text(f"{source}/cgroup.procs").split() if int(pid) != os.getpid()]
        if not others:
            return
        for pid in others:
            with contextlib.suppress(OSError):  # it has ended
                with open(f"{target}/cgroup.procs", "w") as file:
                    file.write(pid)


def _has_programs(group: str) -> bool:
    """Is there anything in the group, or in one below it, that may run? Of a file that is no group: no."""
    return "populated 1" in read_text(f"{group}/cgroup.events") and read_text(f"{group}/cgroup.freeze") == "0"


def _write(group: str, value: str) -> None:
    with contextlib.suppress(OSError):  # it has ended, with all that was in it
        with open(f"{group}/cgroup.freeze", "w") as file:
            file.write(value)


def _stand_still(groups: list[str], cancelled: threading.Event) -> bool:
    """Wait until all do, or have ended; or until nobody waits for that any more."""
    until = time.monotonic() + FROZEN_S
    for group in groups:
        while "frozen 0" in read_text(f"{group}/cgroup.events"):
            if cancelled.is_set() or time.monotonic() > until:
                return False
            time.sleep(LOOK_S)
    return True
