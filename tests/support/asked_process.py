"""Making a process that runs make a system call, to hear what the kernel answers *it*: by ptrace(2), on x86-64.

Nothing else shows from outside what Landlock refuses. Ask only for calls that the process may make without being killed
for it, and that change nothing where they work.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

# linux/ptrace.h, sys/wait.h
GET_REGISTERS, SET_REGISTERS, STEP, DETACH, SEIZE, INTERRUPT = 12, 13, 9, 17, 0x4206, 0x4207
WAIT_ALL = 0x40000000
NUMBERS = {"close": 3, "socket": 41, "kill": 62, "getpid": 39, "openat": 257}
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


libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
libc.ptrace.restype = ctypes.c_long


def can_ask() -> bool:
    """Whether this is a system whose registers and numbers we know."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


class Asked:
    """A process that stands still in a system call for the length of the block, and then goes on with it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = Registers()
        self._memory_file = Path(f"/proc/{pid}/mem")

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
        self._trace(SET_REGISTERS, ctypes.addressof(self._before))
        self._trace(DETACH)

    def call(self, name: str, *arguments: int) -> int:
        """What the call returns to it: a negative number is that of an error. Raises OSError."""
        registers = Registers.from_buffer_copy(self._before)
        registers.rip -= len(SYSCALL)
        registers.rax, registers.orig_rax = NUMBERS[name], ctypes.c_ulonglong(-1).value
        for register, value in zip(("rdi", "rsi", "rdx", "r10"), arguments, strict=False):
            setattr(registers, register, ctypes.c_ulonglong(value).value)
        self._trace(SET_REGISTERS, ctypes.addressof(registers))
        self._trace(STEP)
        _, status = os.waitpid(self._pid, WAIT_ALL)
        if not os.WIFSTOPPED(status):
            raise OSError(f"process {self._pid} was ended for {name}")
        self._trace(GET_REGISTERS, ctypes.addressof(registers))
        return ctypes.c_longlong(registers.rax).value

    def open(self, path: Path) -> int:
        """What comes of opening a file for reading: a descriptor, or the negative number of an error."""
        text = os.fsencode(path) + b"\0"
        at = (self._before.rsp - BELOW) & ~15
        with self._memory_file.open("r+b", buffering=0) as memory:
            memory.seek(at)
            kept = memory.read(len(text))
            memory.seek(at)
            memory.write(text)
            try:
                return self.call("openat", AT_FDCWD, at, os.O_RDONLY)
            finally:
                memory.seek(at)
                memory.write(kept)

    def _memory(self, at: int, size: int) -> bytes:
        with self._memory_file.open("rb", buffering=0) as memory:
            memory.seek(at)
            return memory.read(size)

    def _trace(self, request: int, data: int | None = None) -> None:
        if libc.ptrace(request, self._pid, None, data) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"ptrace {request} of {self._pid}: {os.strerror(number)}")
