"""Makes a passt that serves a guest try one thing that whoever has taken it over would: `PID WORD TOLD`.

A script of its own, as whoever traces a process hears of its end in its parent's place. It prints what came of it:
`done`, `refused`, or `ended` where its filter of system calls killed it. TOLD is JSON and says where things are.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from asked_process import Asked, Ended

SEIZE = 0x4206  # PTRACE_SEIZE
UNIX = struct.pack("=H", socket.AF_UNIX)
Attempt = Callable[[Asked, Mapping[str, Any]], int]


def inet(address: str, port: int) -> bytes:
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(address))


def connect(asked: Asked, family: int, address: bytes) -> int:
    opened = asked.call("socket", family, socket.SOCK_STREAM, 0)
    return opened if opened < 0 else asked.call("connect", opened, address, len(address))


def send(asked: Asked, told: Mapping[str, Any]) -> int:
    """Nothing refuses it in a network that has nobody else: whoever is out there looks whether it has come."""
    opened = asked.call("socket", socket.AF_INET, socket.SOCK_DGRAM, 0)
    address = inet("127.0.0.1", told["port"])
    asked.call("sendto", opened, b"x", 1, 0, address, len(address))
    return -1


def home(told: Mapping[str, Any], name: str = "") -> Path:
    return Path(told["home"], name)


TRIES: dict[str, Attempt] = {
    "a file of the user's": lambda asked, told: asked.open(home(told, "file")),
    "the user's home, list": lambda asked, told: asked.open(home(told), os.O_RDONLY | os.O_DIRECTORY),
    "passwd": lambda asked, told: asked.open(Path("/etc/passwd")),
    "write to a file of the user's": lambda asked, told: asked.open(home(told, "file"), os.O_WRONLY | os.O_TRUNC),
    "make a file there": lambda asked, told: asked.open(home(told, "made"), os.O_WRONLY | os.O_CREAT),
    "all processes": lambda asked, told: asked.open(Path("/proc"), os.O_RDONLY | os.O_DIRECTORY),
    "environment of its starter": lambda asked, told: asked.open(Path(f"/proc/{told['starter']}/environ")),
    "a program": lambda asked, told: asked.call("execve", b"/bin/true\0", 0, 0),
    "a process": lambda asked, told: asked.call("fork"),
    "TCP to this host": lambda asked, told: connect(asked, socket.AF_INET, inet("127.0.0.1", told["port"])),
    "TCP to another host": lambda asked, told: connect(asked, socket.AF_INET, inet("192.0.2.1", 80)),
    "UDP to this host": send,
    "a unix socket": lambda asked, told: connect(asked, socket.AF_UNIX, UNIX + os.fsencode(told["unix"]) + b"\0"),
    "an abstract socket": lambda asked, told: connect(asked, socket.AF_UNIX, UNIX + b"\0" + told["abstract"].encode()),
    "signal": lambda asked, told: asked.call("kill", told["starter"], 0),
    "trace": lambda asked, told: asked.call("ptrace", SEIZE, told["starter"], 0, 0),
}


def main() -> None:
    pid, word, told = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    try:
        with Asked(pid) as asked:
            print("done" if TRIES[word](asked, told) >= 0 else "refused")
    except Ended as error:
        print("ended" if error.errno == -signal.SIGSYS else f"died: {error.errno}")


if __name__ == "__main__":
    main()
