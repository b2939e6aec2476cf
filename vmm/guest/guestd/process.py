"""Starting a command as a session of its own, and finding and ending all that is in one."""

from __future__ import annotations

import contextlib
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

EXEC_ERRNOS = (7, 8, 13, 22, 26, 40)  # E2BIG, ENOEXEC, EACCES, EINVAL, ETXTBSY, ELOOP


class SpawnFailure(Exception):
    """A command that could not be started, with the code and message a shell would give."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Child:
    """A started process and the descriptors to talk to it; with a terminal, stdin and the one output are its master."""

    def __init__(self, process: Popen[bytes], stdin: int, outputs: dict[int, int], *, is_tty: bool) -> None:
        self.process, self.stdin, self.outputs, self.is_tty = process, stdin, outputs, is_tty
        self.pidfd = os.pidfd_open(process.pid)


def spawn(request: Json) -> Child:
    """Start the command as a session of its own. Runs in a worker thread: the file system may block it for ever."""
    argv = [str(word) for word in request["argv"]]
    if not argv:
        raise Failure("no command given")
    account, groups = find_account(request.get("user"))
    environment = login_environment(account) | {str(k): str(v) for k, v in (request.get("env") or {}).items()}
    cwd = request.get("cwd") or (account.pw_dir if os.path.isdir(account.pw_dir) else "/")
    if not os.path.isdir(cwd):  # also asked before vfork, which would hold up all threads on a dead mount
        raise SpawnFailure(126, f"cannot enter {cwd}: no such directory")
    tty = bool(request.get("tty"))
    program = shutil.which(argv[0], path=environment.get("PATH", DEFAULT_PATH)) if "/" not in argv[0] else argv[0]
    if program is None or (tty and not os.path.exists(os.path.join(cwd, program))):
        raise SpawnFailure(127, f"{argv[0]}: command not found")
    options: dict[str, Any] = {}
    if os.geteuid() == 0 and account.pw_uid != 0:
        options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups}
    stdin_child, stdin_ours = subprocess.DEVNULL, -1
    theirs: list[int] = []
    outputs: dict[int, int] = {}
    try:
        if tty:
            master, slave = os.openpty()
            stdin_child, stdin_ours = slave, master
            outputs[master] = STDOUT
            theirs = [slave]
            stdout_child = stderr_child = slave
            set_size(master, int(request.get("rows") or 24), int(request.get("cols") or 80))
            if options:
                os.fchown(slave, account.pw_uid, -1)  # as login does: some programs open their terminal by name
            environment.setdefault("TERM", "xterm-256color")
            argv = ["setsid", "--ctty", *argv]  # takes the terminal; it execs, so the pid stays the same
        else:
            if request.get("stdin"):
                stdin_child, stdin_ours = os.pipe()
                theirs.append(stdin_child)
            stdout_ours, stdout_child = os.pipe()
            outputs[stdout_ours] = STDOUT
            theirs.append(stdout_child)
            stderr_ours, stderr_child = os.pipe()
            outputs[stderr_ours] = STDERR
            theirs.append(stderr_child)
        process = subprocess.Popen(
            argv,
            stdin=stdin_child,
            stdout=stdout_child,
            stderr=stderr_child,
            env=environment,
            cwd=cwd,
            start_new_session=not tty,
            **options,
        )
    except OSError as error:
        for fd in {*outputs, stdin_ours} - {-1}:
            os.close(fd)
        if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError) or error.errno in EXEC_ERRNOS:
            code = 127 if isinstance(error, FileNotFoundError) else 126
            raise SpawnFailure(code, f"{argv[0]}: {error.strerror}") from None
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    for fd in {*outputs, stdin_ours} - {-1}:
        os.set_blocking(fd, False)
    try:  # guestd itself is spared by the OOM killer; what it starts must not be
        with open(f"/proc/{process.pid}/oom_score_adj", "w") as file:
            file.write("0")
    except OSError:
        pass  # already gone, or we are not root
    return Child(process, stdin_ours, outputs, is_tty=tty)


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
