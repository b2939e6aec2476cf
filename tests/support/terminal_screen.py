"""A terminal with a person at it: pexpect reads and types, pyte is what is on the screen and answers its questions."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pexpect
import pyte

HANG_UP_S = 10.0
KEYBOARDS = re.compile(rb"\x1b\[[<>=][0-9;]*u")
# What pyte does for private sequences, too, each in their meaning.
PRIVATE = {"set_mode", "reset_mode", "erase_in_display", "erase_in_line"}

# Of real agents: what is on the screen when they take a prompt, and on none of their dialogs.
READY = {
    "claude-code": "bypass permissions on",
    "codex": "permissions: YOLO mode",
    "opencode": "Ask anything",
    "copilot": "? help",
    "gemini": "Type your message",
}


class Screen(pyte.Screen):
    """pyte's, without the private sequences that it does not know."""


def _of_the_public_alone(name: str) -> Callable[..., None]:
    handle = getattr(pyte.Screen, name)

    def handle_public(screen: pyte.Screen, *parameters: int, private: bool = False) -> None:
        # A private sequence that ends as a public one means something else, and pyte raises TypeError at its mark.
        if not private:
            handle(screen, *parameters)

    return handle_public


for _name in set(pyte.Stream.csi.values()) - PRIVATE:
    setattr(Screen, _name, _of_the_public_alone(_name))


class TerminalScreen:
    """A program in a terminal of its own, `size` in rows and columns. To be closed."""

    def __init__(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], size: tuple[int, int] = (40, 120)
    ) -> None:
        self._screen = Screen(size[1], size[0])
        self._stream = pyte.ByteStream(self._screen)
        environment = {**env, "TERM": "xterm-256color"}
        self.child = pexpect.spawn(argv[0], list(argv[1:]), cwd=str(cwd), env=environment, dimensions=size)
        self._screen.write_process_input = self.child.send  # type: ignore[method-assign]

    @property
    def shown(self) -> str:
        """The screen's lines."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def title(self) -> str:
        return self._screen.title

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
        """Hang up and wait until the program has ended; one that does not is killed."""
        for number in (signal.SIGHUP, signal.SIGKILL):
            deadline = time.monotonic() + HANG_UP_S
            if self.child.isalive():
                self.child.kill(number)
            while self.child.isalive() and time.monotonic() < deadline:
                with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
                    self._read()  # one that still writes does not end
        self.child.close(force=True)
