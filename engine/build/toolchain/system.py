"""The host's own programs. They are used when all of them are there and new enough."""

from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path

from engine.build.toolchain.recipe import MINIMUM_QEMU, OPTIONAL, Program, architecture, programs
from engine.recall.watch import asking
from vmm.environment import clean_environment
from vmm.process import ask
from vmm.tools import Tool

# Directories of such programs that are not in PATH on most systems.
ELSEWHERE = ("/usr/libexec", "/usr/lib/qemu", "/usr/sbin", "/sbin", "/usr/lib")
NAMES = {"connect": ("nc.openbsd", "nc")}
PROBE_TIMEOUT_S = 10.0


def system_tools() -> dict[str, Tool] | None:
    """The host's programs by their field in `vmm.tools.Tools`; None when one is missing, or QEMU is older than 10.

    The guest's kernel and busybox always come from packages: the host's kernel has other drivers built in.
    """
    tools: dict[str, Tool] = {}
    for field, program in programs(architecture()).items():
        tool = _find(field, program)
        if tool is None and field in OPTIONAL:
            continue
        if tool is None:
            return None
        tools[field] = tool
    major = re.match(r"\d+", tools["qemu"].version)
    if major is None or int(major.group()) < MINIMUM_QEMU:
        return None
    return tools


def _find(field: str, program: Program) -> Tool | None:
    search = ":".join([clean_environment()["PATH"], *ELSEWHERE])
    for name in NAMES.get(field, (program.name,)):
        path = shutil.which(name, path=search)
        if path is None:
            continue
        text = _answer(path, program.version_argument, _stamp(path))
        # Only OpenBSD's netcat has -N, without which a connection never ends.
        if text is None or (field == "connect" and not re.search(r"\[-46\w*N", text)):
            continue
        return Tool(program.name, (path,), {}, parse_version(text), "system", Path(path))
    return None


@functools.cache
def _answer(path: str, argument: str, stamp: tuple[int, ...]) -> str | None:
    """The program's answer.

    It is asked once in the life of this process, since one `up` needs the answer many times.
    """
    return _ask(path, argument)


def _stamp(path: str) -> tuple[int, ...]:
    """A value that changes when the program at `path` is replaced. Raises OSError."""
    status = Path(path).stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _ask(path: str, argument: str) -> str | None:
    with asking([path]):
        done = ask([path, argument], timeout_s=PROBE_TIMEOUT_S)
    return (done.stdout + done.stderr).decode(errors="replace") if done else None


def parse_version(text: str) -> str:
    """The first text in a program's answer that looks like a version, such as "10.0.13"; else "unknown"."""
    version = re.search(r"\b\d+(?:\.\d+)+\b", text)
    return version.group() if version else "unknown"
