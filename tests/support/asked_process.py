"""Making a process that runs make a system call, to hear what the kernel answers *it*: by ptrace(2), on x86-64.

Nothing else shows from outside what Landlock refuses. Ask only for calls that the process may make without being killed
for it, and that change nothing where they work.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
from pathlib import Path
from typing import Any

# linux/ptrace.h, sys/wait.h
CONTINUE, GET_REGISTERS, SET_REGISTERS, STEP, DETACH, SEIZE, INTERRUPT = 7, 12, 13, 9, 17, 0x4206, 0x4207
WAIT_ALL = 0x40000000
NUMBERS = {"close": 3, "getpid": 39, "socket": 41, "connect": 42, "sendto": 44, "fork": 57, "execve": 59, "kill": 62}
NUMBERS |= {"ptrace": 101, "openat": 257}
AT_FDCWD = -100
SYSCALL = b"\x0f\x05"
BELOW = 4096  # bytes below its stack, further than a function without a frame of its own writes
# sys/user.h: struct user_regs_struct
REGISTERS = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
    *("orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
)


class Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in REGISTERS]


class Piece(ctypes.Structure):
    """struct iovec: where, and how many bytes."""

    _fields_ = [("at", ctypes.c_void_p), ("size", ctypes.c_size_t)]


libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
libc.ptrace.restype = ctypes.c_long


def can_ask() -> bool:
    """Whether this is a system whose registers and numbers we know, and that lets this user ask."""
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    closed = os.geteuid() != 0 and scope.exists() and scope.read_text().strip() != "0"
    return sys.platform == "linux" and platform.machine() == "x86_64" and not closed


class Ended(OSError):
    """The kernel killed the process instead of answering: `errno` is its exit code, negative for a signal."""


class Asked:
    """A process that stands still in a system call for the length of the block, and then goes on with it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = Registers()
        self._ended, self._goes_on = False, True

    def __enter__(self) -> Asked:
        self._trace(SEIZE)
        try:
            self._trace(INTERRUPT)
            os.waitpid(self._pid, WAIT_ALL)
            self._trace(GET_REGISTERS, ctypes.addressof(self._before))
            if self._memory(self._before.rip - len(SYSCALL), len(SYSCALL)) != SYSCALL:
                raise OSError(f"process {self._pid} does not wait in a system call")
        except BaseException:
            self._trace(DETACH)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._goes_on:
            self._trace(SET_REGISTERS, ctypes.addressof(self._before))
        if not self._ended:
            self._trace(DETACH)

    def call(self, name: str, *arguments: int | bytes) -> int:
        """What the call returns to it: a negative number is that of an error. Bytes are a place in its memory.

        Raises Ended when it was killed for it, OSError.
        """
        registers = Registers.from_buffer_copy(self._before)
        registers.rip -= len(SYSCALL)
        registers.rax, registers.orig_rax = NUMBERS[name], ctypes.c_ulonglong(-1).value
        at = (self._before.rsp - BELOW) & ~15
        kept: list[tuple[int, bytes]] = []
        for register, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments, strict=False):
            if isinstance(value, bytes):
                at -= (len(value) + 15) & ~15
                kept.append((at, self._memory(at, len(value))))
                self._write(at, value)
                value = at
            setattr(registers, register, ctypes.c_ulonglong(value).value)
        self._trace(SET_REGISTERS, ctypes.addressof(registers))
        self._trace(STEP)
        _, status = os.waitpid(self._pid, WAIT_ALL)
        if os.WIFSTOPPED(status) and os.WSTOPSIG(status) != signal.SIGTRAP:  # what it would be killed for comes next
            self._trace(CONTINUE, os.WSTOPSIG(status))
            _, status = os.waitpid(self._pid, WAIT_ALL)
        if not os.WIFSTOPPED(status):
            self._ended, self._goes_on = True, False
            raise Ended(os.waitstatus_to_exitcode(status), f"process {self._pid} was ended for {name}")
        self._trace(GET_REGISTERS, ctypes.addressof(registers))
        result = ctypes.c_longlong(registers.rax).value
        if name == "execve" and result >= 0:  # it is another program by now
            self._goes_on = False
            return result
        for place, before in kept:
            self._write(place, before)
        return result

    def open(self, path: Path, flags: int = os.O_RDONLY) -> int:
        """What comes of opening a file: a descriptor, or the negative number of an error."""
        return self.call("openat", AT_FDCWD, os.fsencode(path) + b"\0", flags, 0o600)

    def _memory(self, at: int, size: int) -> bytes:
        room = ctypes.create_string_buffer(size)
        self._copy("process_vm_readv", room, at, size)
        return room.raw

    def _write(self, at: int, data: bytes) -> None:
        self._copy("process_vm_writev", ctypes.create_string_buffer(data, len(data)), at, len(data))

    def _copy(self, call: str, ours: Any, theirs: int, size: int) -> None:
        """Not by /proc/PID/mem, which is root's where the process wants nobody to look into it."""
        here, there = Piece(ctypes.addressof(ours), size), Piece(theirs, size)
        function = getattr(libc, call)
        function.restype = ctypes.c_ssize_t
        if function(self._pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) != size:
            number = ctypes.get_errno()
            raise OSError(number, f"{call} of {self._pid}: {os.strerror(number)}")

    def _trace(self, request: int, data: int | None = None) -> None:
        if libc.ptrace(request, self._pid, None, data) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"ptrace {request} of {self._pid}: {os.strerror(number)}")
