"""What every command does alike: help, colours, pipes, our bugs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pexpect
import pytest
from cli_world import DEADLINE_S, CommandLine

from engine.cli.names import COMMANDS


def test_alone_it_shows_help(sandbox: CommandLine) -> None:
    ran = sandbox()
    assert ran.code == 0 and ran.out == sandbox("--help").out and ran.err == ""
    assert all(f"  {name} " in ran.out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples_and_fits(sandbox: CommandLine, name: str) -> None:
    ran = sandbox(name, "-h")
    assert ran.code == 0 and ran.out.startswith(f"Usage: sandbox {name}")
    assert all(len(line) <= 100 for line in ran.out.splitlines())
    if name not in ("ls", "plan", "console", "doctor"):
        assert "Examples:" in ran.out or "To use it:" in ran.out


def test_version(sandbox: CommandLine) -> None:
    assert sandbox("--version").out.startswith("sandbox, version ")


@pytest.mark.parametrize(
    ("word", "hint"), [("exce", "Did you mean 'exec'?"), ("frobnicate", "`sandbox --help` lists them.")]
)
def test_an_unknown_command(sandbox: CommandLine, word: str, hint: str) -> None:
    ran = sandbox(word)
    assert (ran.code, ran.out) == (2, "") and f"there is no command '{word}'. {hint}".lower() in ran.err.lower()


def coloured(sandbox: CommandLine, **env: str) -> str:
    argv = sandbox.argv("exec", "nobody", "--", "true")
    text, code = pexpect.run(
        subprocess.list2cmdline(argv),
        cwd=str(sandbox.project),
        env=sandbox.environment(**env),
        withexitstatus=True,
        timeout=DEADLINE_S,
    )
    assert code == 1
    return bytes(text).decode()


def test_colours_only_where_they_are_wanted(sandbox: CommandLine) -> None:
    assert "\x1b[" in coloured(sandbox, TERM="xterm", NO_COLOR="")
    assert "\x1b[" not in coloured(sandbox, TERM="xterm", NO_COLOR="1")
    assert "\x1b[" not in coloured(sandbox, TERM="dumb", NO_COLOR="")
    assert "\x1b[" not in sandbox("exec", "nobody", "--", "true", TERM="xterm", NO_COLOR="").err


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_broken_pipe_is_silent(sandbox: CommandLine, stream: str) -> None:
    argv = sandbox.argv("--help") if stream == "stdout" else sandbox.argv("exec")
    other = "stderr" if stream == "stdout" else "stdout"
    # `true` has ended, and its standard input with it, before anything is written
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as reader:
        reader.wait(DEADLINE_S)
        assert reader.stdin is not None
        done = subprocess.run(
            argv,
            cwd=sandbox.project,
            env=sandbox.environment(),
            timeout=DEADLINE_S,
            **{stream: reader.stdin, other: subprocess.PIPE},  # type: ignore[call-overload]
        )
    assert done.returncode == 141
    assert getattr(done, other) == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_under_our_output(sandbox: CommandLine) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            sandbox.argv("--help"), stdout=full, stderr=subprocess.PIPE, env=sandbox.environment(), timeout=DEADLINE_S
        )
    assert done.returncode == 1
    assert done.stderr == b"error: No space left on device\nhint: free some space\n"


def test_our_bugs_are_owned_up_to(sandbox: CommandLine) -> None:
    code = (
        "from engine.cli import main\n"
        "from engine.lifecycle import selection\n"
        "def broken(): raise ZeroDivisionError('really')\n"
        "selection.open_layout = broken\n"
        "main.main(['ls'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=sandbox.environment(), timeout=DEADLINE_S
    )
    assert done.returncode == 3
    assert "Traceback" in done.stderr and "ZeroDivisionError: really" in done.stderr
    assert "this is a bug in sandbox; please report it" in done.stderr


def test_directories_that_cannot_be_used(sandbox: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = sandbox("ls", SANDBOX_STATE_DIR=str(tmp_path / "file" / "state"))
    assert ran.code == 1 and "hint: SANDBOX_CACHE_DIR" in ran.err
    ran = sandbox("ls", SANDBOX_STATE_DIR="relative")
    assert ran.code == 1 and "must be an absolute path" in ran.err


LEAVE = """
import sys, threading
from engine.cli.main import _leave
tried = threading.Event()
sys.stdout.write("kept\\n")
if "thread" in sys.argv:
    threading.Thread(target=lambda: (tried.wait(), print("worked"))).start()
_leave(7)
tried.set()
sys.stderr.write("the usual end\\n")
sys.exit(7)
"""


def left(*argv: str, out: int | IO[str] = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", LEAVE, *argv]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(program, env=env, stdout=out, stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S)


def test_leaving_at_once_loses_nothing() -> None:
    done = left()
    assert (done.returncode, done.stdout, done.stderr) == (7, "kept\n", "")
    done = left("thread")
    assert (done.returncode, done.stdout, done.stderr) == (7, "kept\nworked\n", "the usual end\n")
    with Path("/dev/full").open("w") as full:
        done = left(out=full)
    assert done.returncode == 120 and done.stderr.startswith("the usual end\n") and "No space left" in done.stderr
