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


def choose_fault(random: Random, typical_s: float) -> Fault:
    """A fault at some moment of a command that takes about `typical_s`."""
    kind = random.choices(KINDS, (5, 3, 2, 2, 2))[0]
    victim = random.choices(tuple(VICTIMS), (3, 4, 3, 2, 2, 1))[0]
    lasts_s = 45.0 if kind == "stopped" and random.random() < 0.02 else random.uniform(0.2, 5.0)
    return Fault(kind, victim, random.uniform(0, typical_s * 1.2), lasts_s)


def processes(marks: Sequence[str]) -> dict[int, str]:
    """Every live process with one of these texts in its environment or arguments, but for this one: its arguments."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (directory / "cmdline").read_bytes()
            known = command + (directory / "environ").read_bytes()
            if command and int(directory.name) != os.getpid() and any(mark.encode() in known for mark in marks):
                found[int(directory.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


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
    """Let it happen, now. False where the victim was not there before the command had ended."""
    if fault.kind == "without disk":
        with disk.taken():
            time.sleep(fault.lasts_s)
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
            time.sleep(fault.lasts_s)
            os.kill(pid, signal.SIGCONT)
        else:
            _starve(pid, fault)
    return True


def _starve(pid: int, fault: Fault) -> None:
    if fault.kind == "without descriptors":
        which, most = resource.RLIMIT_NOFILE, sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    else:
        which, most = resource.RLIMIT_AS, int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * 4096 + SPARE
    soft, hard = resource.prlimit(pid, which)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.prlimit(pid, which, (most, hard))
    time.sleep(fault.lasts_s)
    _, hard = resource.prlimit(pid, which)  # it may have given up some of that meanwhile
    if hard != resource.RLIM_INFINITY and (soft == resource.RLIM_INFINITY or soft > hard):
        soft = hard
    resource.prlimit(pid, which, (soft, hard))
