"""Telling whether a pid still belongs to the same process: pids are used again."""

from __future__ import annotations

import os

from engine.scarcity import is_scarcity

PS_S = 5.0


def describe_process(pid: int) -> str | None:
    """A text that no other process of this host ever has; None when the process does not exist, or has died.

    On Linux the text is the id of the boot and the start time in ticks; elsewhere it is what `ps` prints within PS_S.
    Raises OSError where there is too little of something to look.
    """
    if os.path.exists("/proc/self/stat"):
        return _describe_by_proc(pid)
    return _describe_by_ps(pid)


def is_same_process(pid: int, described: str) -> bool:
    """Whether `pid` is still the process whose `describe_process` was `described`."""
    return describe_process(pid) == described


def _describe_by_proc(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as stat, open("/proc/sys/kernel/random/boot_id") as boot_id:
            text, boot = stat.read(), boot_id.read().strip()
    except (OSError, ValueError) as error:
        if is_scarcity(error):
            raise
        return None
    # The name may hold spaces and parentheses, so fields are counted after the last one. Field 3 is the state, field 22
    # the start time.
    after_name = text.rpartition(")")[2].split()
    if after_name[0] in ("Z", "X"):  # dead, but its parent has not collected it yet
        return None
    return f"{boot}/{after_name[19]}"


def _describe_by_ps(pid: int) -> str | None:
    import subprocess

    result = subprocess.run(
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"LC_ALL": "C", "TZ": "UTC"},
        timeout=PS_S,
        check=False,
    )
    state, _, started = result.stdout.strip().partition(" ")
    return " ".join(started.split()) if started and not state.startswith("Z") else None
