"""The one door through which processes are started.

Children get an explicit environment, no stdin, a session of their own and a leash: they are killed by the kernel when
the starting process dies, however it dies. Call from the main thread's event loop only: Linux ties the leash to the
*thread* that started the child.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from vmm.child_watcher import watch_without_threads
from vmm.environment import clean_environment
from vmm.errors import VmmError
from vmm.jail import Jail
from vmm.last_words import LastWords
from vmm.lines import LineSplitter
from vmm.session import end_session

LEASH = Path(__file__).with_name("leash.py")
# The beginning of a Python program of ours: what it ends with for want of memory or descriptors is said in a line.
IN_A_LINE = (
    "import sys; sys.excepthook = lambda kind, error, trace: sys.stderr.write(f'{kind.__name__}: {error}\\n')"
    " if issubclass(kind, (MemoryError, ImportError, OSError, SystemError)) else"
    " sys.__excepthook__(kind, error, trace); "
)
OUTPUT_LIMIT = 64 * 1024 * 1024
STREAM_LIMIT = 1024 * 1024  # the longest line that readline() of a child's output returns
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
class Finished:
    """What a finished command left: its exit code and everything it printed."""

    argv: tuple[str, ...]
    code: int
    stdout: bytes
    stderr: bytes


def ask(argv: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None) -> Finished | None:
    """Run a program that answers at once, away from the current directory, outside of any event loop.

    It has no leash, so any thread may ask. `env` are all its variables, instead of `clean_environment()`. None when it
    is missing, cannot be started, or is not done within `timeout_s` seconds; it is killed then.
    """
    try:
        done = subprocess.run(
            argv,
            cwd="/",
            env=clean_environment() if env is None else env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Finished(tuple(argv), done.returncode, done.stdout, done.stderr)


@contextlib.asynccontextmanager
async def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | IO[bytes] = asyncio.subprocess.DEVNULL,
    stdout: int | IO[bytes] = asyncio.subprocess.DEVNULL,
    stderr: int | IO[bytes] | LastWords = asyncio.subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    umask: int = -1,
    grace_s: float = STOP_GRACE_S,
    jail: Jail | None = None,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start `argv` for as long as the block runs; `env` is added to `clean_environment()`, `umask` -1 is our own.

    With `jail` it keeps nothing but what that names, and ends with code 126 where it cannot be shut in. What a child
    that lives long says belongs into `LastWords`: a file or a pipe of its own would have no end.

    On leaving, its whole session gets TERM, after `grace_s` seconds (or at once, when cancelled again) KILL, and is
    waited for. Raises ProcessError when it cannot be started; a missing command ends with code 127 instead.
    """
    watch_without_threads()
    loop = asyncio.get_running_loop()
    try:
        # What create_subprocess_exec does, but we need the transport: see _end.
        transport, protocol = await loop.subprocess_exec(
            lambda: asyncio.subprocess.SubprocessStreamProtocol(limit=STREAM_LIMIT, loop=loop),
            *(sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), jail.words() if jail else ""),
            *argv,
            env=clean_environment(env),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=cast("IO[bytes]", stderr),
            pass_fds=tuple(pass_fds),
            umask=umask,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:  # no such directory, too many arguments, a null byte
        raise ProcessError(argv, None, str(error), "could not be started") from error
    process = asyncio.subprocess.Process(transport, protocol, loop)
    try:
        yield process
    finally:
        await _finish(process, transport, grace_s)


async def _finish(process: asyncio.subprocess.Process, transport: asyncio.SubprocessTransport, grace_s: float) -> None:
    """`_end` to its end, whoever is cancelled meanwhile: we (then there is no more grace) or, at a loop's end, it."""
    task = asyncio.ensure_future(_end(process, transport, grace_s))
    cancelled = False
    while True:
        try:
            await asyncio.shield(task)
            break
        except asyncio.CancelledError:
            cancelled = True
            if task.done():
                task = asyncio.ensure_future(_end(process, transport, grace_s))
            elif process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
    if cancelled:
        raise asyncio.CancelledError


async def _end(process: asyncio.subprocess.Process, transport: asyncio.SubprocessTransport, grace_s: float) -> None:
    try:
        await end_session(process.pid, reaped=lambda: process.returncode is not None, grace_s=grace_s)
    finally:
        # Process.wait() also waits for the pipes, which a descendant in a session of its own may hold for ever.
        for number in range(3):
            pipe = transport.get_pipe_transport(number)
            if isinstance(pipe, asyncio.WriteTransport) and pipe.get_write_buffer_size():
                pipe.abort()
            elif pipe is not None:
                pipe.close()
        await process.wait()
        transport.close()


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    timeout_s: float,
    on_line: Callable[[str], None] | None = None,
    check: bool = True,
    umask: int = -1,
    jail: Jail | None = None,
) -> Finished:
    """Run `argv` to its end and return what it printed; `on_line` sees each line of either stream as it comes.

    Raises ProcessError when it exits non-zero (unless `check` is false), cannot be started, or is not done within
    `timeout_s` seconds; it is ended then, and on cancellation.
    """
    pipe = asyncio.subprocess.PIPE
    out, err = bytearray(), bytearray()
    source = asyncio.subprocess.DEVNULL if stdin is None else pipe
    options: dict[str, Any] = {"env": env, "cwd": cwd, "umask": umask, "jail": jail}
    async with spawn(argv, stdin=source, stdout=pipe, stderr=pipe, **options) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            async with asyncio.timeout(timeout_s):
                await _gather(
                    _collect(process.stdout, out, on_line),
                    _collect(process.stderr, err, on_line),
                    _feed(process, stdin),
                )
                code = await process.wait()
        except TimeoutError:
            text = (out + err).decode(errors="replace")
            raise ProcessError(argv, None, text, f"was not done after {timeout_s:.0f} s") from None
    if check and code != 0:
        raise ProcessError(argv, code, (out + err).decode(errors="replace"))
    return Finished(tuple(argv), code, bytes(out), bytes(err))


async def _gather(*parts: Coroutine[Any, Any, None]) -> None:
    """asyncio.gather, but when one part fails (`on_line` raised) the others do not go on without us."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _feed(process: asyncio.subprocess.Process, data: bytes | None) -> None:
    if data is None or process.stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()
    # Before Python 3.11.4 asyncio complains about a broken pipe that nobody asked about.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await process.stdin.wait_closed()


async def _collect(stream: asyncio.StreamReader, into: bytearray, on_line: Callable[[str], None] | None) -> None:
    lines = LineSplitter()
    while chunk := await stream.read(65536):
        if len(into) < OUTPUT_LIMIT:
            into += chunk
        if on_line is not None:
            for line in lines.feed(chunk):
                on_line(line)
    if on_line is not None:
        for line in lines.close():
            on_line(line)


GUARD = Path(__file__).with_name("guard.py")


@contextlib.contextmanager
def guarded_directory(path: Path, before: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Iterator[Path]:
    """Make `path` (mode 0700) for the length of the block, and have it removed even if this process is killed.

    The command `before` is run in it before that, in any case, with the variables `env` for `clean_environment()`.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    reader, writer = os.pipe()
    # The guard is born deaf, and does not die of ^C in the moment before it can say so itself.
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        # Not on a leash: it must outlive us. It ends when the pipe closes, which the kernel does for us.
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), str(path), *before],
            stdin=reader,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=clean_environment() if env is None else env,
            cwd="/",
            start_new_session=True,
        )
    except BaseException:
        os.close(writer)
        raise
    finally:
        os.close(reader)
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)
    try:
        yield path
    finally:
        os.close(writer)
        guard.wait()
        shutil.rmtree(path, ignore_errors=True)  # somebody may have killed the guard


@contextlib.contextmanager
def scratch_directory(
    prefix: str, within: Path | None = None, before: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """A new directory (mode 0700) for the length of the block, which goes even if this process is killed.

    It lies in `within`; default: where the user's temporary files are. Its guard takes about 20 ms; `before` and `env`
    are as in `guarded_directory`. In a directory that has a guard `tempfile` does the same.
    """
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=within))
    try:
        with guarded_directory(directory, before, env):
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)  # there was no guard for it
