"""Being asked by `up` what a file may have of this host, on a terminal and without one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
from cli_world import DEADLINE_S, CommandLine, Ran

HEAD = 'version: "1"\n'
WORKSPACE = HEAD + "mounts: [.:/workspace]\n"
ONLY = str(Path(__file__).with_name("approve_only.py"))


@contextlib.contextmanager
def on_a_terminal(sandbox: CommandLine, *argv: str) -> Iterator[pexpect.spawn[str]]:
    child = pexpect.spawn(
        sys.executable,
        list(argv),
        cwd=str(sandbox.project),
        env=sandbox.environment(TERM="dumb"),
        dimensions=(50, 200),
        timeout=DEADLINE_S,
        encoding="utf-8",
    )
    try:
        yield child
    finally:
        child.close(force=True)


def answer(sandbox: CommandLine, typed: str | None, *options: str) -> tuple[int, str]:
    """Exit code and all that was shown; `typed` None: no question is expected."""
    with on_a_terminal(sandbox, ONLY, *options) as child:
        shown = ""
        if typed is not None:
            child.expect_exact("Allow this? [y/N]: ")
            shown = child.before or ""
            child.send(typed)
        child.expect(pexpect.EOF)
        shown += child.before or ""
        child.wait()
        assert child.exitstatus is not None
        return child.exitstatus, shown.replace("\r\n", "\n")


def unasked(sandbox: CommandLine, *options: str) -> str:
    """What it prints where there is no terminal."""
    return alone(sandbox, *options).out


def alone(sandbox: CommandLine, *options: str) -> Ran:
    """The same with all that it says."""
    argv = [sys.executable, ONLY, *options]
    done = subprocess.run(
        argv, cwd=sandbox.project, env=sandbox.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return Ran(done.returncode, done.stdout, done.stderr)
