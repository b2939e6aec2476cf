"""Children and directories of a process that is killed with -9 do not outlive it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmm.jail import Jail
from vmm.process import GUARD, LEASH, guarded_directory, scratch_directory

Ended = Callable[[int, float], bool]
ROOT = Path(__file__).parents[3]
STARTER = """
import asyncio, sys
from vmm.process import spawn

async def main():
    command = ["sh", "-c", "echo running; exec sleep 600"]
    async with spawn(command, stdout=asyncio.subprocess.PIPE) as process:
        if sys.argv[1] == "running":
            await process.stdout.readline()
        print(process.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
OWNER = """
import signal, sys
from pathlib import Path
from vmm.process import guarded_directory, scratch_directory

with guarded_directory(Path(sys.argv[1])) as directory:
    (directory / "below").mkdir()
    (directory / "below" / "file").write_text("x")
    print("made", flush=True)
    signal.pause()
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a Python program that can import vmm, in a session of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, *arguments]
        process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("moment", ["starting", "running"])
def test_a_child_dies_with_its_killed_starter(
    moment: str, start: Callable[..., subprocess.Popen[str]], ended: Ended
) -> None:
    starter = start(STARTER, moment)
    assert starter.stdout is not None
    child = int(starter.stdout.readline())
    starter.send_signal(signal.SIGKILL)
    try:
        assert ended(child, 2)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_who_starts_after_its_parents_death_ends_at_once() -> None:
    stranger = os.getppid()
    done = subprocess.run([sys.executable, "-I", "-S", LEASH, str(stranger), "", "echo", "ran"], capture_output=True)
    assert (done.returncode, done.stdout) == (125, b"")


def test_a_missing_command_says_so() -> None:
    done = subprocess.run([sys.executable, "-I", "-S", LEASH, str(os.getpid()), "", "no-such"], capture_output=True)
    assert done.returncode == 127
    assert done.stderr == b"cannot run no-such: No such file or directory\n"


def test_a_command_that_is_no_program_says_so(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-I", "-S", LEASH, str(os.getpid()), "", tmp_path], capture_output=True)
    assert done.returncode == 127
    assert b"Permission denied" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody is shut in")
def test_a_host_without_memory_is_said_in_a_line() -> None:
    """Shutting itself in takes a thread: without memory for that it says so, as for a missing command."""
    words = Jail(read=(Path("/"),), run=(Path("/"),), memory=1).words()
    argv = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), words, sys.executable, "-c", ""]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode in (126, 127), done
    assert done.stderr.startswith(("cannot run ", "cannot shut in ")) and done.stderr.count("\n") == 1


def test_the_directory_is_private_and_removed(tmp_path: Path) -> None:
    with guarded_directory(tmp_path / "a" / "b") as directory:
        assert directory.stat().st_mode & 0o777 == 0o700
        (directory / "file").write_text("x")
    assert not directory.exists()
    assert directory.parent.exists()


def test_a_command_comes_before_the_end(tmp_path: Path) -> None:
    """In the directory, and with the variables that it is given."""
    script = 'cat file > "$0"; echo $WORD >> "$0"'
    before = ["sh", "-c", script, str(tmp_path / "seen")]
    with guarded_directory(tmp_path / "a", before, {"PATH": os.environ["PATH"], "WORD": "word"}) as directory:
        (directory / "file").write_text("there\n")
    assert (tmp_path / "seen").read_text() == "there\nword\n"
    assert not directory.exists()


def test_a_directory_without_a_guard_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def popen(*args: object, **options: object) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", popen)
    (tmp_path / "here").mkdir()
    with pytest.raises(BlockingIOError), scratch_directory("a-", tmp_path / "here"):
        raise AssertionError("it has no guard")
    assert not list((tmp_path / "here").iterdir())


def test_the_directory_is_removed_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), guarded_directory(tmp_path / "a") as directory:
        (directory / "file").write_text("x")
        raise KeyError
    assert not directory.exists()


def test_the_directory_is_removed_although_its_guard_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guards: list[subprocess.Popen[bytes]] = []
    original = subprocess.Popen

    def popen(*args: object, **options: object) -> subprocess.Popen[bytes]:
        guards.append(original(*args, **options))  # type: ignore[call-overload]
        return guards[0]

    monkeypatch.setattr(subprocess, "Popen", popen)
    with guarded_directory(tmp_path / "a") as directory:
        guards[0].kill()
        guards[0].wait()
    assert not directory.exists()


@pytest.mark.parametrize("scratch", [False, True])
def test_a_killed_owner_leaves_no_directory(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], scratch: bool
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    program = OWNER.replace("guarded_directory(", "scratch_directory('a-', ") if scratch else OWNER
    owner = start(program, str(here if scratch else here / "a"))
    assert owner.stdout is not None
    assert owner.stdout.readline() == "made\n"
    [guard] = [int(pid) for pid in Path(f"/proc/{owner.pid}/task/{owner.pid}/children").read_text().split()]
    descriptor = os.pidfd_open(guard)
    try:
        # ^C and a closed terminal reach the guard too, but it waits for the owner's end.
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            os.kill(guard, number)
        owner.send_signal(signal.SIGKILL)
        assert select.select([descriptor], [], [], 20)[0]
    finally:
        os.close(descriptor)
    assert not list(here.iterdir())


def test_a_guard_waits_for_the_last_holder_of_the_pipe(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    command = [sys.executable, "-I", "-S", GUARD, tmp_path / "a"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as guard:
        assert guard.stdin is not None
        guard.stdin.write(b"anything")
        guard.stdin.flush()
        assert guard.poll() is None
        assert (tmp_path / "a").exists()
    assert not (tmp_path / "a").exists()
