"""What may happen to a process of a sandbox at a bad moment: it is killed, stopped, or starved."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from own_place import processes

# Words of a command line, by what the process is.
VICTIMS = {
    "command": ("engine.cli.main",),
    "supervisor": ("engine.supervisor",),
    "QEMU": ("qemu-system", "-name"),
    "file server": ("vmm.fileserver",),
    "passt": ("passt", "--foreground"),
    "guard": ("guard.py",),
}
KINDS = ("killed", "stopped", "without disk", "without descriptors", "without memory")
SPARE = 2 << 20  # bytes that a process without memory may still have
STEP_S = 0.02
LONG_S = 45.0  # of a stop that is longer than most of what waits here
AFTER_S = 0.5  # of the fault, when the command has ended


@dataclass(frozen=True)
class Fault:
    """`delay_s` after the command has begun, the victim suffers for `lasts_s`."""

    kind: str
    victim: str
    delay_s: float
    lasts_s: float

    def __str__(self) -> str:
        who = "all" if self.kind == "without disk" else self.victim
        lasts = "" if self.kind == "killed" else f" for {self.lasts_s:.1f} s"
        return f"{who} {self.kind} after {self.delay_s:.2f} s{lasts}"


def choose_fault(random: Random, typical_s: float, long: float) -> Fault:
    """A fault at some moment of a command that takes about `typical_s`; of the stops, the share `long` lasts LONG_S."""
    kind = random.choices(KINDS, (5, 3, 2, 2, 2))[0]
    victim = random.choices(tuple(VICTIMS), (3, 4, 3, 2, 2, 1))[0]
    lasts_s = LONG_S if kind == "stopped" and random.random() < long else random.uniform(0.2, 5.0)
    return Fault(kind, victim, random.uniform(0, typical_s * 1.2), lasts_s)


def find_victim(kind: str, marks: Sequence[str]) -> int | None:
    words = VICTIMS[kind]
    for pid, command in sorted(processes(marks).items()):
        if all(word in command for word in words) and (kind == "command" or "engine.cli.main" not in command):
            return pid
    return None


class SmallDisk:
    """The state directory, a tmpfs of its own in this mount namespace, whose room can be taken away."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(path)], check=True)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Without room for the length of the block."""
        self._resize(max(shutil.disk_usage(self._path).used, 1 << 16))
        try:
            yield
        finally:
            self._resize(self._size)

    def _resize(self, size: int) -> None:
        argv = ["mount", "-t", "tmpfs", "-o", f"remount,size={size}", "tmpfs", str(self._path)]
        subprocess.run(argv, check=False, capture_output=True)  # somebody may have written more meanwhile

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self._path)], check=False)


def strike(fault: Fault, marks: Sequence[str], disk: SmallDisk, running: Callable[[], bool]) -> bool:
    """Let it happen, now. False where the victim was not there before the command had ended.

    It is over when it has lasted as long as it should, or AFTER_S after the command has ended.
    """
    if fault.kind == "without disk":
        with disk.taken():
            _last(fault, running)
        return True
    while (pid := find_victim(fault.victim, marks)) is None:
        if not running():
            return False
        time.sleep(STEP_S)
    # It may have ended, or have become somebody else's.
    with contextlib.suppress(ProcessLookupError, FileNotFoundError, PermissionError):
        if fault.kind == "killed":
            os.kill(pid, signal.SIGKILL)
        elif fault.kind == "stopped":
            os.kill(pid, signal.SIGSTOP)
            _last(fault, running)
            os.kill(pid, signal.SIGCONT)
        else:
            _starve(pid, fault, running)
    return True


def _last(fault: Fault, running: Callable[[], bool]) -> None:
    now = time.monotonic()
    end = now + fault.lasts_s
    while now < end:
        if not running():
            end = min(end, now + AFTER_S)
        time.sleep(STEP_S)
        now = time.monotonic()


def _starve(pid: int, fault: Fault, running: Callable[[], bool]) -> None:
    if fault.kind == "without descriptors":
        which, most = resource.RLIMIT_NOFILE, sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    else:
        which, most = resource.RLIMIT_AS, int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * 4096 + SPARE
    soft, hard = resource.prlimit(pid, which)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.prlimit(pid, which, (most, hard))
    _last(fault, running)
    _, hard = resource.prlimit(pid, which)  # it may have given up some of that meanwhile
    if hard != resource.RLIM_INFINITY and (soft == resource.RLIM_INFINITY or soft > hard):
        soft = hard
    resource.prlimit(pid, which, (soft, hard))
