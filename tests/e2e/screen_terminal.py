"""A terminal with a person at it: pexpect reads and types, pyte is what is on the screen and answers its questions."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pyte
from world import World

KEYBOARDS = re.compile(rb"\x1b\[[<>=][0-9;]*u")
KEYS = "\x1c\x04"  # ctrl-\ ctrl-d, which detach


class Screen(pyte.Screen):
    """pyte's, which knows the marks of private sequences for fewer of them than programs use."""

    def report_device_attributes(self, mode: int = 0, **private: Any) -> None:
        if not private:
            super().report_device_attributes(mode)

    def select_graphic_rendition(self, *attributes: int, **private: Any) -> None:
        if not private:
            super().select_graphic_rendition(*attributes)


class ScreenTerminal:
    """`sandbox ARGV...` in a terminal of its own, `rows` by `columns`. To be closed."""

    def __init__(self, world: World, cwd: Path, *argv: str, size: tuple[int, int] = (40, 120)) -> None:
        words = [*world.within(cwd), sys.executable, "-m", "engine.cli.main", *argv]
        self._screen = Screen(size[1], size[0])
        self._stream = pyte.ByteStream(self._screen)
        environment = {**os.environ, "TERM": "xterm-256color"}
        self.child = pexpect.spawn(words[0], words[1:], cwd=str(cwd), env=environment, dimensions=size)
        self._screen.write_process_input = self.child.send  # type: ignore[method-assign]

    @property
    def shown(self) -> str:
        """The screen's lines."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def wait_for(self, good: Callable[[str], bool], what: str, timeout_s: float) -> str:
        """Read on until the screen is as it should be; the last one is in the failure."""
        deadline = time.monotonic() + timeout_s
        while not good(self.shown):
            assert time.monotonic() < deadline, f"{what} did not come; the screen is:\n{self.shown}"
            try:
                self._read()
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                assert good(self.shown), f"{what} did not come before the end; the screen is:\n{self.shown}"
        return self.shown

    def wait_for_text(self, text: str, timeout_s: float) -> str:
        return self.wait_for(lambda shown: text in shown, repr(text), timeout_s)

    def _read(self) -> None:
        # pyte would print the sequences of the kitty keyboards.
        self._stream.feed(KEYBOARDS.sub(b"", self.child.read_nonblocking(1 << 16, timeout=1)))

    def type(self, keys: str) -> None:
        self.child.send(keys)

    def detach(self, timeout_s: float) -> None:
        """Leave by the keys."""
        self.type(KEYS)
        self.wait_for_text("detached; the agent goes on.", timeout_s)
        assert self.wait(timeout_s) == 0

    def wait(self, timeout_s: float) -> int | None:
        """The exit code."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                self._read()
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                self.child.wait()
                code: int | None = self.child.exitstatus
                return code
        raise AssertionError(f"it did not end; the screen is:\n{self.shown}")

    def close(self) -> None:
        self.child.close(force=True)
