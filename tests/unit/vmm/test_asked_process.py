"""A process that is asked from outside answers as the kernel answers it, and goes on as if nothing had been."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from asked_process import Asked, can_ask

pytestmark = pytest.mark.skipif(not can_ask(), reason="its registers are those of Linux on x86-64")
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
