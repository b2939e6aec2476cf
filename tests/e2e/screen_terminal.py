"""The command line in a terminal with a person at it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from terminal_screen import TerminalScreen
from world import World

KEYS = "\x1c\x04"  # ctrl-\ ctrl-d, which detach


class ScreenTerminal(TerminalScreen):
    """`sandbox ARGV...` in a terminal of its own, `size` in rows and columns. To be closed."""

    def __init__(self, world: World, cwd: Path, *argv: str, size: tuple[int, int] = (40, 120)) -> None:
        words = [*world.within(cwd), sys.executable, "-m", "engine.cli.main", *argv]
        super().__init__(words, cwd, os.environ, size)

    def detach(self, timeout_s: float) -> None:
        """Leave by the keys."""
        self.type(KEYS)
        self.wait_for_text("detached; the agent goes on.", timeout_s)
        assert self.wait(timeout_s) == 0
