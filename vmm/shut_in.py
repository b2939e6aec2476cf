"""Shut this process in and become another program, which can never become a third. Called by the leash.

`vmm/jail.py` writes the words that are read here. Standard library only, and few modules of it: this stands in front of
QEMU on the way to every start.
"""

from __future__ import annotations

import _thread
import ctypes
import fcntl
import os
import resource
import struct

from vmm import confine, system_calls

TYPE_CHECKING = False  # typing and collections would cost each start of a process as much as all of this
if TYPE_CHECKING:
    from collections.abc import Sequence

# Our words for what may be done below a path, and at a file.
RIGHTS = {
    "read": confine.READ_FILE | confine.READ_DIRECTORY,
    "run": confine.READ_FILE | confine.EXECUTE,
    "write": confine.READ_FILE | confine.WRITE_FILE | confine.TRUNCATE,
    "fill": confine.READ_FILE
    | confine.READ_DIRECTORY
    | confine.WRITE_FILE
    | confine.TRUNCATE
    | confine.MAKE_FILE
    | confine.REMOVE_FILE,
    "device": confine.READ_FILE | confine.WRITE_FILE | confine.DEVICE_CONTROL,
}
NETWORK, HELPERS, REPORT = "network", "helpers", "report"
MEMORY, FILE = "memory", "file"  # how many bytes of memory of its own, and of one file that it writes
FILES_MOST = 4096  # descriptors
PORTS_SINCE, SIGNALS_SINCE = 4, 6  # versions of Landlock
# linux/seccomp.h: the size of a notification and of its answer are a part of the numbers.
RECEIVE, SEND, NOTIFICATION, ANSWER, CONTINUE = 0xC0502100, 0xC0182101, 80, "=QqiI", 1


def shut_in(words: str) -> int | None:
    """Give up all that `words` do not name; returns the descriptor that is asked about execve, if there is one.

    Landlock and parts of the filter are left out where the kernel does not know them; of a namespace that was asked for
    OSError is raised. Raises OSError, ValueError for words that are none.
    """
    told = [line.partition(" ") for line in words.split("\n")]
    flags = {word: text for word, _, text in told if word in (NETWORK, HELPERS, REPORT, MEMORY, FILE)}
    rules = [(RIGHTS[word], text) for word, _, text in told if word not in flags]
    holds = []
    if NETWORK in flags:
        confine.unshare(confine.CLONE_NEWNET | confine.CLONE_NEWIPC)
        holds.append("an empty network")
    lower(resource.RLIMIT_NOFILE, FILES_MOST)
    # RLIMIT_AS would count the memory of the guest, which is shared, and all that is mapped and never used.
    for word, which in ((MEMORY, resource.RLIMIT_DATA), (FILE, resource.RLIMIT_FSIZE)):
        if word in flags:
            lower(which, int(flags[word]))
    confine.become(os.geteuid(), os.getegid())
    holds.append("no capability")
    if version := confine.landlock_version():
        _restrict(rules, version, ports=HELPERS in flags)
        holds.append(f"Landlock {version}")
    asked = system_calls.refuse_to_program(starts_others=HELPERS in flags)
    holds += ["system calls"] if system_calls.known() else []
    holds += ["no program but its own"] if asked is not None else []
    if REPORT in flags:
        os.write(int(flags[REPORT]), ", ".join(holds).encode())
    return asked


def lower(which: int, limit: int) -> None:
    """Have at most `limit` of a resource, for good. Raises OSError."""
    _, most = resource.getrlimit(which)
    limit = limit if most == resource.RLIM_INFINITY else min(most, limit)
    resource.setrlimit(which, (limit, limit))


def _restrict(rules: Sequence[tuple[int, str]], version: int, *, ports: bool) -> None:
    opened = []
    try:
        for rights, path in rules:
            try:
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue  # what is not there needs no right, and the program says itself what it misses
            opened.append((descriptor, rights if os.path.isdir(path) else rights & confine.OF_FILES))  # noqa: PTH112
        confine.restrict(opened, version, ports=ports)
    finally:
        for descriptor, _ in opened:
            os.close(descriptor)


def become_program(argv: list[str], asked: int | None) -> None:
    """execve, and the answer to the one question about it. Raises OSError."""
    if asked is None:
        os.execvp(argv[0], argv)
    words = [os.fsencode(word) for word in argv]
    variables = [os.fsencode(f"{name}={value}") for name, value in os.environ.items()]
    _thread.start_new_thread(_allow_one, (asked,))
    # Not os.execv, which holds Python's lock: the other thread could not answer.
    confine.checked(confine.libc.execve(words[0], _strings(words), _strings(variables)))


def _strings(words: Sequence[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(words) + 1))(*words, None)


def _allow_one(asked: int) -> None:
    question = bytearray(NOTIFICATION)
    fcntl.ioctl(asked, RECEIVE, question)
    (number,) = struct.unpack_from("=Q", question)
    fcntl.ioctl(asked, SEND, struct.pack(ANSWER, number, 0, 0, CONTINUE))
