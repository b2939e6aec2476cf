"""A process that is asked from outside answers as the kernel answers it, and goes on as if nothing had been."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from asked_process import Asked, Ended, can_ask

pytestmark = pytest.mark.skipif(not can_ask(), reason="this system, or its rules, do not let us ask")
WAITS = "print('waits', flush=True); print(input(), len(__import__('os').listdir('/proc/self/fd')), flush=True)"


@pytest.fixture
def waiting() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout and process.stdout.readline() == "waits\n"
        yield process
        process.kill()


def test_it_says_what_the_kernel_says(waiting: subprocess.Popen[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Asked(waiting.pid) as asked:
        assert asked.call("getpid") == waiting.pid
        assert asked.open(tmp_path / "none") == -errno.ENOENT
        opened = asked.open(tmp_path / "file")
        assert Path(f"/proc/{waiting.pid}/fd/{opened}").readlink() == tmp_path / "file"
        assert asked.call("close", opened) == 0
        assert asked.call("kill", os.getpid(), 0) == 0
    out, _ = waiting.communicate("goes on\n", timeout=30)
    assert out.split() == ["goes", "on", "4"] and waiting.returncode == 0


def test_it_goes_on_when_asking_fails(waiting: subprocess.Popen[str]) -> None:
    with pytest.raises(KeyError), Asked(waiting.pid) as asked:
        asked.call("no such call")
    assert waiting.communicate("x\n", timeout=30)[0].startswith("x ")


KILLED = """
import ctypes, struct
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
# Load the number of the call; kill for socket(2), allow all others.
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 41), (0x06, 0, 0, 0x80000000), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
class Filter(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
wanted = Filter(len(steps), ctypes.addressof(program))
assert libc.prctl(22, 2, ctypes.byref(wanted), 0, 0) == 0
"""


def test_one_that_is_killed_for_it_is_told_apart(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED + WAITS], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout and process.stdout.readline() == "waits\n"
        with Asked(process.pid) as asked:
            assert asked.call("kill", os.getpid(), 0) == 0
            with pytest.raises(Ended) as ended:
                asked.call("socket", 2, 1, 0)
        assert ended.value.errno == -signal.SIGSYS


def test_bytes_are_a_place_in_its_memory(waiting: subprocess.Popen[str], tmp_path: Path) -> None:
    with Asked(waiting.pid) as asked, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place := Path(os.environ["SANDBOX_RUNTIME_DIR"]) / "s"))
        listener.listen()
        opened = asked.call("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0)
        address = struct.pack("=H", socket.AF_UNIX) + os.fsencode(place) + b"\0"
        assert asked.call("connect", opened, address, len(address)) == 0
        assert asked.call("close", opened) == 0
        assert asked.call("execve", b"/no/such/program\0", 0, 0) == -errno.ENOENT
    assert waiting.communicate("x\n", timeout=30)[0].startswith("x ")
