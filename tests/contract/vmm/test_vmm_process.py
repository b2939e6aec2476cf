"""`run` and `spawn`: what comes back, and that nothing is left, whatever the child and whatever we do meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vmm import session
from vmm.environment import clean_environment
from vmm.process import OUTPUT_LIMIT, ProcessError, run, spawn

Runner = Callable[..., Any]
Ended = Callable[[int, float], bool]
PIPE = asyncio.subprocess.PIPE
PYTHON = (sys.executable, "-I", "-S", "-c")

# Each prints the numbers of its processes, one a line, when they are ready to be ended.
READY = "print(os.getpid(), flush=True)"
SLEEPS = "while True: signal.pause()"
IGNORES_TERM = f"""
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
{READY}
{SLEEPS}
"""
ENDS_WELL = f"""
import os, signal, sys
def end(number, frame):
    with open(sys.argv[1], "w") as file:
        file.write("clean")
    os._exit(7)
signal.signal(signal.SIGTERM, end)
{READY}
{SLEEPS}
"""
# The leader dies of TERM at once; a child in a process group of its own, and its child, do not.
FAMILY = f"""
import os, signal
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.fork()
{READY}
{SLEEPS}
"""
SLOW_CHILD = f"""
import os, signal
if os.fork() == 0:
    exec({ENDS_WELL!r})
signal.pause()
"""
LEAVES_ONE_BEHIND = f"""
import os, signal
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    {READY}
    {SLEEPS}
os.wait4(-1, os.WNOHANG)
"""
# One leaves the session with the pipe in its hand: it cannot be found any more, and nobody may wait for it.
RUNAWAY = f"""
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
{READY}
{SLEEPS}
"""


def children() -> set[int]:
    """Our own, the dead that nobody has waited for as well."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found


async def numbers(process: asyncio.subprocess.Process, count: int) -> list[int]:
    assert process.stdout is not None
    return [int(await process.stdout.readline()) for _ in range(count)]


def test_run_returns_both_streams_and_the_code(run_clean: Runner) -> None:
    done = run_clean(run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=20, check=False))
    assert (done.code, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


def test_run_raises_with_the_command_its_code_and_its_last_words(run_clean: Runner) -> None:
    with pytest.raises(ProcessError, match=r"^sh failed with code 3$") as caught:
        run_clean(run(["/bin/sh", "-c", "echo one; echo two >&2; exit 3"], timeout_s=20))
    assert caught.value.code == 3
    assert caught.value.argv == ("/bin/sh", "-c", "echo one; echo two >&2; exit 3")
    assert caught.value.details == "one\ntwo"


def test_run_names_the_signal(run_clean: Runner) -> None:
    with pytest.raises(ProcessError, match="was ended by signal 15") as caught:
        run_clean(run(["sh", "-c", "kill -TERM $$"], timeout_s=20))
    assert caught.value.code == -15


def test_run_keeps_only_the_end_of_long_words(run_clean: Runner) -> None:
    with pytest.raises(ProcessError) as caught:
        run_clean(run(["sh", "-c", "seq 1000; exit 1"], timeout_s=20))
    assert (caught.value.details or "").splitlines() == [str(number) for number in range(971, 1001)]


def test_output_has_a_limit(run_clean: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    assert OUTPUT_LIMIT <= 2**27
    monkeypatch.setattr("vmm.process.OUTPUT_LIMIT", 100_000)
    done = run_clean(run(["head", "-c", "3000000", "/dev/zero"], timeout_s=20))
    assert 100_000 <= len(done.stdout) < 200_000


def test_stdin_is_fed_and_closed(run_clean: Runner) -> None:
    data = os.urandom(3_000_000)
    assert run_clean(run(["cat"], stdin=data, timeout_s=20)).stdout == data


def test_without_stdin_a_reader_sees_its_end(run_clean: Runner) -> None:
    assert run_clean(run(["cat"], timeout_s=20)).stdout == b""


def test_a_child_that_does_not_read_its_stdin_is_no_error(run_clean: Runner) -> None:
    assert run_clean(run(["true"], stdin=bytes(3_000_000), timeout_s=20)).code == 0


def test_lines_come_while_it_runs(run_clean: Runner) -> None:
    """The child ends only because its line was seen."""
    released: list[str] = []

    async def main(folder: Path) -> None:
        fifo = folder / "fifo"
        os.mkfifo(fifo)

        def on_line(line: str) -> None:
            released.append(line)
            if line == "waiting":
                with fifo.open("w") as file:
                    file.write("go\n")

        await run(["sh", "-c", f"echo waiting; read word < {fifo}; echo $word >&2"], timeout_s=20, on_line=on_line)

    run_clean(main(Path(os.environ["SANDBOX_RUNTIME_DIR"])))
    assert released == ["waiting", "go"]


def test_a_carriage_return_ends_a_line(run_clean: Runner) -> None:
    lines: list[str] = []
    command = ["printf", r"10%%\r20%%\r\n\n  \nd\303\251j\303\240\nno end"]
    done = run_clean(run(command, timeout_s=20, on_line=lines.append))
    assert lines == ["10%", "20%", "déjà", "no end"]
    assert done.stdout.startswith(b"10%\r20%\r\n")


def test_an_endless_line_takes_no_memory(run_clean: Runner) -> None:
    lines: list[str] = []
    run_clean(run(["head", "-c", "1000000", "/dev/zero"], timeout_s=20, on_line=lines.append))
    assert [len(line) for line in lines] == [4096]


def test_an_error_of_on_line_ends_the_command(run_clean: Runner, ended: Ended) -> None:
    seen: list[int] = []

    def on_line(line: str) -> None:
        seen.append(int(line))
        raise KeyError(line)

    with pytest.raises(KeyError):
        run_clean(run(["sh", "-c", "echo $$; exec sleep 600"], timeout_s=20, on_line=on_line))
    assert ended(seen[0], 0)


def test_the_deadline_ends_it_and_keeps_what_it_said(run_clean: Runner, ended: Ended) -> None:
    for timeout_s in (0.3, 1.0, 5.0, 20.0):  # on a busy machine it may not get to say anything in a short time
        with pytest.raises(ProcessError, match=f"was not done after {timeout_s:.0f} s") as caught:
            run_clean(run(["sh", "-c", "echo $$; exec sleep 600"], timeout_s=timeout_s))
        if caught.value.output:
            break
    assert caught.value.code is None
    assert ended(int(caught.value.output), 0)


def test_the_deadline_also_holds_while_it_does_not_read(run_clean: Runner) -> None:
    with pytest.raises(ProcessError, match="was not done"):
        run_clean(run(["sleep", "600"], stdin=bytes(3_000_000), timeout_s=0.2))


def test_a_missing_command_says_so(run_clean: Runner) -> None:
    with pytest.raises(ProcessError, match="code 127") as caught:
        run_clean(run(["no-such-command"], timeout_s=20))
    assert caught.value.details == "cannot run no-such-command: No such file or directory"


def test_what_cannot_be_started_is_our_error(run_clean: Runner, tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="true could not be started") as caught:
        run_clean(run(["true"], cwd=tmp_path / "missing", timeout_s=20))
    assert "No such file" in (caught.value.details or "")
    with pytest.raises(ProcessError, match="true could not be started"):
        run_clean(run(["true", "a\0b"], timeout_s=20))
    with pytest.raises(ProcessError, match="true could not be started"):
        run_clean(run(["true", "x" * 10_000_000], timeout_s=20))


def test_children_see_only_what_they_may(run_clean: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "x")
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    seen = dict(
        line.split("=", 1)
        for line in run_clean(run(["env"], env={"MORE": "y"}, timeout_s=20)).stdout.decode().splitlines()
    )
    assert "A_SECRET" not in seen
    assert (seen["MORE"], seen["http_proxy"], seen["LC_ALL"]) == ("y", "http://proxy.example:3128", "C.UTF-8")
    monkeypatch.delenv("PATH")
    assert "/usr/bin" in clean_environment()["PATH"].split(":")


def test_only_named_descriptors_are_inherited(run_clean: Runner) -> None:
    reader, writer = os.pipe()
    other, unnamed = os.pipe()
    for descriptor in (writer, unnamed):
        os.set_inheritable(descriptor, True)
    try:

        async def main() -> None:
            command = [*PYTHON, f"import os; os.write({writer}, b'x'); os.write({unnamed}, b'x')"]
            async with spawn(command, pass_fds=[writer]) as process:
                assert await process.wait() == 1

        run_clean(main())
        os.set_blocking(other, False)
        assert os.read(reader, 10) == b"x"
        with pytest.raises(BlockingIOError):
            os.read(other, 10)
    finally:
        for descriptor in (reader, writer, other, unnamed):
            os.close(descriptor)


def test_a_child_has_a_session_of_its_own(run_clean: Runner) -> None:
    async def main() -> None:
        async with spawn(["sleep", "600"]) as process:
            assert os.getsid(process.pid) == process.pid

    run_clean(main())


def test_term_comes_first(run_clean: Runner, tmp_path: Path) -> None:
    async def main() -> asyncio.subprocess.Process:
        async with spawn([*PYTHON, ENDS_WELL, str(tmp_path / "end")], stdout=PIPE) as process:
            await numbers(process, 1)
        return process

    assert run_clean(main()).returncode == 7
    assert (tmp_path / "end").read_text() == "clean"


def test_members_get_the_grace_although_their_leader_is_gone(run_clean: Runner, tmp_path: Path) -> None:
    async def main() -> None:
        async with spawn([*PYTHON, SLOW_CHILD, str(tmp_path / "end")], stdout=PIPE, grace_s=30) as process:
            await numbers(process, 1)

    run_clean(main())
    assert (tmp_path / "end").read_text() == "clean"


def test_kill_follows(run_clean: Runner) -> None:
    async def main() -> asyncio.subprocess.Process:
        async with spawn([*PYTHON, IGNORES_TERM], stdout=PIPE, grace_s=0.2) as process:
            await numbers(process, 1)
        return process

    assert run_clean(main()).returncode == -signal.SIGKILL


def test_a_whole_family_ends(run_clean: Runner, ended: Ended) -> None:
    async def main() -> list[int]:
        async with spawn([*PYTHON, FAMILY], stdout=PIPE, grace_s=0.2) as process:
            return await numbers(process, 3)

    family = run_clean(main())
    assert all(ended(pid, 0) for pid in family)


def test_those_left_behind_end_with_the_block(run_clean: Runner, ended: Ended) -> None:
    """Their leader was reaped long ago."""

    async def main() -> int:
        async with spawn([*PYTHON, LEAVES_ONE_BEHIND], stdout=PIPE, grace_s=0.2) as process:
            [pid] = await numbers(process, 1)
            assert await asyncio.to_thread(ended, process.pid, 20)
            assert not ended(pid, 0)
            return pid

    assert ended(run_clean(main()), 0)


def test_a_number_that_others_use_now_is_left_alone(run_clean: Runner, ended: Ended) -> None:
    """A leader that was reaped and still is there is a stranger that got its number."""

    async def main() -> None:
        async with spawn(["sleep", "600"]) as stranger:
            await session.end_session(stranger.pid, reaped=lambda: True, grace_s=0.0)
            assert not ended(stranger.pid, 0)

    run_clean(main())


def test_a_runaway_with_our_pipe_does_not_hold_us(run_clean: Runner, ended: Ended) -> None:
    async def main() -> list[int]:
        async with spawn([*PYTHON, RUNAWAY], stdout=PIPE, grace_s=0.2) as process:
            return await numbers(process, 2) + [process.pid]

    *pair, leader = run_clean(main())
    try:
        assert ended(leader, 0)
    finally:
        for pid in set(pair) - {leader}:
            os.kill(pid, signal.SIGKILL)


def test_without_proc_the_leader_ends_all_the_same(run_clean: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_proc(*_: object) -> list[int]:
        raise FileNotFoundError("/proc")

    monkeypatch.setattr(session, "_living_members", no_proc)

    async def main() -> asyncio.subprocess.Process:
        async with spawn([*PYTHON, IGNORES_TERM], stdout=PIPE, grace_s=30) as process:
            await numbers(process, 1)
        return process

    assert run_clean(main()).returncode == -signal.SIGKILL


def test_cancelled_run_leaves_nothing(run_clean: Runner, ended: Ended) -> None:
    seen: list[int] = []

    async def main() -> None:
        ready = asyncio.Event()

        def on_line(line: str) -> None:
            seen.append(int(line))
            ready.set()

        task = asyncio.ensure_future(run([*PYTHON, ENDS_WELL, os.devnull], timeout_s=60, on_line=on_line))
        await ready.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_clean(main())
    assert ended(seen[0], 0)


@pytest.mark.parametrize("times", [2, 3])
def test_cancelled_again_there_is_no_more_grace(times: int, run_clean: Runner, ended: Ended) -> None:
    """The user presses ^C a second time, and has not got an hour."""
    seen: list[int] = []

    async def hold(ready: asyncio.Event) -> None:
        async with spawn([*PYTHON, IGNORES_TERM], stdout=PIPE, grace_s=3600) as process:
            seen.extend(await numbers(process, 1))
            ready.set()
            await asyncio.Event().wait()

    async def main() -> None:
        ready = asyncio.Event()
        task = asyncio.ensure_future(hold(ready))
        await ready.wait()
        for _ in range(times):
            task.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_clean(main())
    assert ended(seen[0], 0)


@pytest.mark.parametrize("rounds", range(8))
def test_a_run_cancelled_at_any_moment_leaves_nothing(rounds: int, run_clean: Runner, ended: Ended) -> None:
    """Also while it is being started."""

    async def main() -> None:
        task = asyncio.ensure_future(run(["sleep", "600"], timeout_s=60, stdin=b"x"))
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    before = children()
    run_clean(main())
    assert children() <= before


def test_a_loop_that_ends_takes_its_processes_along(ended: Ended) -> None:
    """A task that nobody awaits is cancelled by asyncio.run, and what it waits for with it."""
    seen: list[int] = []

    async def hold(started: asyncio.Event) -> None:
        async with spawn([*PYTHON, ENDS_WELL, os.devnull], stdout=PIPE) as process:
            seen.extend(await numbers(process, 1))
            started.set()
            await process.wait()

    async def main() -> None:
        started = asyncio.Event()
        task = asyncio.create_task(hold(started))
        await started.wait()
        task.cancel()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert ended(seen[0], 0)


def test_a_child_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no memory for one, a child that was started already would be nobody's."""
    if not hasattr(os, "pidfd_open"):
        pytest.skip("this host has no pidfds")

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def child() -> int:
        async with spawn(["sh", "-c", "exit 3"]) as process:
            return await process.wait()

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert asyncio.run(child()) == 3
