"""The host's own programs, used when they are complete and new enough."""

from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path

from engine.build.toolchain.recipe import MINIMUM_QEMU, Program, architecture, programs
from vmm.process import ask, clean_environment
from vmm.tools import Tool

# Not in PATH on most systems.
ELSEWHERE = ("/usr/libexec", "/usr/lib/qemu", "/usr/sbin", "/sbin", "/usr/lib")
NAMES = {"connect": ("nc.openbsd", "nc")}
PROBE_TIMEOUT_S = 10.0


def system_tools() -> dict[str, Tool] | None:
    """The programs by their field in `vmm.tools.Tools`; None when one is missing, or QEMU is older than 10.

    Kernel and busybox always come from packages: a host's own kernel has other drivers built in.
    """
    found: dict[str, Tool] = {}
    for field, program in programs(architecture()).items():
        tool = _find(field, program)
        if tool is None:
            return None
        found[field] = tool
    major = re.match(r"\d+", found["qemu"].version)
    if major is None or int(major.group()) < MINIMUM_QEMU:
        return None
    return found


def _find(field: str, program: Program) -> Tool | None:
    search = ":".join([clean_environment()["PATH"], *ELSEWHERE])
    for name in NAMES.get(field, (program.name,)):
        path = shutil.which(name, path=search)
        if path is None:
            continue
        text = _answer(path, program.version_argument, _stamp(path))
        # Other netcats have no -N; without it a connection never ends.
        if text is None or (field == "connect" and not re.search(r"\[-46\w*N", text)):
            continue
        return Tool(program.name, (path,), {}, parse_version(text), "system", Path(path))
    return None


@functools.cache
def _answer(path: str, argument: str, stamp: tuple[int, ...]) -> str | None:
    """What the program says, asked once in the life of a process: each `up` wants to know many times."""
    return _ask(path, argument)


def _stamp(path: str) -> tuple[int, ...]:
    """Changes when the program is another one. Raises OSError."""
    seen = Path(path).stat()
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns


def _ask(path: str, argument: str) -> str | None:
    done = ask([path, argument], timeout_s=PROBE_TIMEOUT_S)
    return (done.stdout + done.stderr).decode(errors="replace") if done else None


def parse_version(text: str) -> str:
    """The first thing in a program's answer that looks like a version: "10.0.13"; "unknown" when there is none."""
    found = re.search(r"\b\d+(?:\.\d+)+\b", text)
    return found.group() if found else "unknown"
