"""The one door through which processes are started.

Children get an explicit environment, no stdin, a session of their own and a leash: they are killed by the kernel when
the starting process dies, however it dies. Call from the main thread's event loop only: Linux ties the leash to the
*thread* that started the child.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vmm.errors import VmmError

LEASH = Path(__file__).with_name("leash.py")
OUTPUT_LIMIT = 64 * 1024 * 1024
STOP_GRACE_S = 5.0


class ProcessError(VmmError):
    """A command failed: carries argv, the exit code (negative: the signal) and the end of what it printed."""

    def __init__(self, argv: Sequence[str], code: int | None, output: str, why: str | None = None) -> None:
        name = Path(argv[0]).name
        how = why or (f"was ended by signal {-code}" if code is not None and code < 0 else f"failed with code {code}")
        super().__init__(f"{name} {how}", details="\n".join(output.splitlines()[-30:]) or None)
        self.argv = tuple(argv)
        self.code = code
        self.output = output


@dataclass(frozen=True)
class Completed:
    """What a finished command left: its exit code and everything it printed."""

    argv: tuple[str, ...]
    code: int
    stdout: bytes
    stderr: bytes


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables every child may see (PATH, HOME, locale, proxies of the package clients), plus `extra`."""
    keep = ("PATH", "HOME", "TMPDIR", "LANG", "USER", "LOGNAME")
    proxies = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "no_proxy", "ftp_proxy")]
    environment = {name: os.environ[name] for name in (*keep, *proxies) if name in os.environ}
    environment.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    environment["LC_ALL"] = "C.UTF-8"
    environment.update(extra or {})
    return environment


@contextlib.asynccontextmanager
async def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | IO[bytes] = asyncio.subprocess.DEVNULL,
    stdout: int | IO[bytes] = asyncio.subprocess.DEVNULL,
    stderr: int | IO[bytes] = asyncio.subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    grace_s: float = STOP_GRACE_S,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start `argv` for as long as the block runs; `env` is added to `clean_environment()`.

    On leaving, its whole session gets TERM, after `grace_s` seconds KILL, and is waited for.
    """
    leash = (sys.executable, "-I", "-S", str(LEASH), str(os.getpid()))
    process = await asyncio.create_subprocess_exec(
        *leash,
        *argv,
        env=clean_environment(env),
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
        limit=1024 * 1024,
    )
    try:
        yield process
    finally:
        await asyncio.shield(asyncio.ensure_future(end(process, grace_s)))


async def end(process: asyncio.subprocess.Process, grace_s: float = STOP_GRACE_S) -> None:
    """End the process and its session: TERM, `grace_s` seconds, KILL, then wait until it is reaped."""
    if process.returncode is None:
        _signal_session(process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), grace_s)
        if process.returncode is None:
            _signal_session(process.pid, signal.SIGKILL)
            await process.wait()
    for member in _session_members(process.pid):
        # They outlived their leader and have nobody else to end them.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(member, signal.SIGKILL)


def _signal_session(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _session_members(session: int) -> list[int]:
    """Processes of a session whose leader is gone; its number is not given to others while a member lives."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # pid (comm) state ppid pgrp session ...: comm may hold anything, so count from the last bracket.
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                members.append(int(stat.parent.name))
    return members


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    timeout_s: float,
    on_line: Callable[[str], None] | None = None,
    check: bool = True,
) -> Completed:
    """Run `argv` to its end and return what it printed; `on_line` sees each line of either stream as it comes.

    Raises ProcessError when it exits non-zero (unless `check` is false), cannot be started, or is not done within
    `timeout_s` seconds; it is ended then, and on cancellation.
    """
    pipe = asyncio.subprocess.PIPE
    out, err = bytearray(), bytearray()
    source = asyncio.subprocess.DEVNULL if stdin is None else pipe
    async with spawn(argv, env=env, cwd=cwd, stdin=source, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            async with asyncio.timeout(timeout_s):
                readers = (_collect(process.stdout, out, on_line), _collect(process.stderr, err, on_line))
                await asyncio.gather(*readers, _feed(process, stdin))
                code = await process.wait()
        except TimeoutError:
            text = (out + err).decode(errors="replace")
            raise ProcessError(argv, None, text, f"was not done after {timeout_s:.0f} s") from None
    if check and code != 0:
        raise ProcessError(argv, code, (out + err).decode(errors="replace"))
    return Completed(tuple(argv), code, bytes(out), bytes(err))


async def _feed(process: asyncio.subprocess.Process, data: bytes | None) -> None:
    if data is None or process.stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _collect(stream: asyncio.StreamReader, into: bytearray, on_line: Callable[[str], None] | None) -> None:
    rest = b""
    while chunk := await stream.read(65536):
        if len(into) < OUTPUT_LIMIT:
            into += chunk
        if on_line is None:
            continue
        # A carriage return redraws a progress line: for us that is a new line.
        *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            if line.strip():
                on_line(line.decode(errors="replace"))
        rest = rest[-4096:]
    if on_line is not None and rest.strip():
        on_line(rest.decode(errors="replace"))


GUARD = Path(__file__).with_name("guard.py")


@contextlib.contextmanager
def guarded_directory(path: Path) -> Iterator[Path]:
    """Make `path` (mode 0700) for the length of the block, and have it removed even if this process is killed."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    reader, writer = os.pipe()
    try:
        # Not on a leash: it must outlive us. It ends when the pipe closes, which the kernel does for us.
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), str(path)],
            stdin=reader,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=clean_environment(),
            cwd="/",
            start_new_session=True,
        )
    except BaseException:
        os.close(writer)
        raise
    finally:
        os.close(reader)
    try:
        yield path
    finally:
        os.close(writer)
        guard.wait()
