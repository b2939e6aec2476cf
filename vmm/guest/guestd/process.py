"""Starting a command as a session of its own, and finding and ending all that is in one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import termios
from subprocess import Popen
from typing import Any

from .accounts import DEFAULT_PATH, find_account, login_environment
from .failure import Failure, Json
from .wire import STDERR, STDOUT

# What exec may say about a command: the rest are failures of ours.
EXEC_ERRNOS = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EACCES,
    errno.E2BIG,
    errno.ENOEXEC,
    errno.EINVAL,
    errno.ETXTBSY,
    errno.ELOOP,
)


class SpawnFailure(Exception):
    """A command that could not be started, with the code and message a shell would give."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Descriptors:
    """What lies between a command and us. Of a terminal, the master is all of our ends and the slave all of theirs."""

    def __init__(self) -> None:
        self.stdin = -1
        self.outputs: dict[int, int] = {}  # descriptor -> STDOUT or STDERR
        self.theirs = [subprocess.DEVNULL] * 3

    @property
    def ours(self) -> set[int]:
        return {*self.outputs, self.stdin} - {-1}

    def open_terminal(self, rows: int, cols: int) -> None:
        self.stdin, slave = os.openpty()
        self.outputs[self.stdin] = STDOUT
        self.theirs = [slave] * 3
        set_size(self.stdin, rows, cols)

    def open_pipes(self, *, stdin: bool) -> None:
        if stdin:
            self.theirs[0], self.stdin = os.pipe()
        for sub in (STDOUT, STDERR):
            ours, self.theirs[sub] = os.pipe()
            self.outputs[ours] = sub

    def close_theirs(self) -> None:
        for fd in {*self.theirs} - {subprocess.DEVNULL}:
            os.close(fd)

    def close_ours(self) -> None:
        for fd in self.ours:
            os.close(fd)


class Child:
    """A started process and our ends of its descriptors; with a terminal, stdin and the one output are its master."""

    def __init__(self, process: Popen[bytes], descriptors: Descriptors, *, is_tty: bool) -> None:
        self.process, self.is_tty = process, is_tty
        self.stdin, self.outputs = descriptors.stdin, descriptors.outputs
        self.pidfd = os.pidfd_open(process.pid)


def spawn(request: Json) -> Child:
    """Start the command as a session of its own. Runs in a worker thread: the file system may block it for ever."""
    argv = [str(word) for word in request["argv"]]
    if not argv:
        raise Failure("no command given")
    account, groups = find_account(request.get("user"))
    environment = login_environment(account) | {str(k): str(v) for k, v in (request.get("env") or {}).items()}
    cwd = request.get("cwd") or (account.pw_dir if os.path.isdir(account.pw_dir) else "/")
    tty = bool(request.get("tty"))
    check_command(argv[0], environment, cwd, tty=tty)
    options: dict[str, Any] = {}
    if os.geteuid() == 0 and account.pw_uid != 0:
        options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups}
    descriptors = Descriptors()
    try:
        if tty:
            descriptors.open_terminal(int(request.get("rows") or 24), int(request.get("cols") or 80))
            if options:  # as login does: some programs open their terminal by name
                os.fchown(descriptors.theirs[0], account.pw_uid, -1)
            environment.setdefault("TERM", "xterm-256color")
            words = ["setsid", "--ctty", *argv]  # takes the terminal; it execs, so the pid stays the same
        else:
            descriptors.open_pipes(stdin=bool(request.get("stdin")))
            words = argv
        stdin, stdout, stderr = descriptors.theirs
        options |= {"env": environment, "cwd": cwd, "start_new_session": not tty}
        process = subprocess.Popen(words, stdin=stdin, stdout=stdout, stderr=stderr, **options)
    except OSError as error:
        descriptors.close_ours()
        if error.errno in EXEC_ERRNOS:
            code = 127 if isinstance(error, FileNotFoundError) else 126
            raise SpawnFailure(code, f"{argv[0]}: {error.strerror}") from None
        raise
    finally:
        descriptors.close_theirs()
    for fd in descriptors.ours:
        os.set_blocking(fd, False)
    spare_no_more(process.pid)
    return Child(process, descriptors, is_tty=tty)


def check_command(program: str, environment: dict[str, str], cwd: str, *, tty: bool) -> None:
    """What a shell would say before it starts `program`; raises SpawnFailure.

    The directory is asked for before vfork, which would hold up all threads on a dead mount.
    """
    if not os.path.isdir(cwd):
        raise SpawnFailure(126, f"cannot enter {cwd}: no such directory")
    path = shutil.which(program, path=environment.get("PATH", DEFAULT_PATH)) if "/" not in program else program
    if path is None or (tty and not os.path.exists(os.path.join(cwd, path))):
        raise SpawnFailure(127, f"{program}: command not found")


def spare_no_more(pid: int) -> None:
    """guestd itself is spared by the OOM killer; what it starts must not be."""
    try:
        with open(f"/proc/{pid}/oom_score_adj", "w") as file:
            file.write("0")
    except OSError:
        pass  # already gone, or we are not root


def scan_sessions() -> dict[int, set[int]]:
    """Session -> process groups with at least one live (not zombie) member."""
    sessions: dict[int, set[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, _, group, session = file.read().rpartition(b")")[2].split()[:4]
            except (OSError, ValueError):
                continue
            if state not in b"ZX":
                sessions.setdefault(int(session), set()).add(int(group))
    return sessions


def signal_groups(groups: set[int], *, kill: bool) -> None:
    for group in groups:
        for number in (signal.SIGKILL,) if kill else (signal.SIGTERM, signal.SIGHUP, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)


def exit_of(code: int) -> Json:
    return {"ok": {"code": code if code >= 0 else 128 - code, "signal": -code if code < 0 else None}}


def set_size(fd: int, rows: int, cols: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, cols & 0xFFFF, 0, 0))


def unread(fd: int) -> int:
    """How many bytes are in the pipe or terminal now."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0])
