"""This terminal as one of those of a session in the guest (`vmm.guest.guestd.session`), until it detaches."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vmm.channel.attach import Attachment, watch_signals
from vmm.channel.detach_keys import HELD, KeyWatch
from vmm.channel.terminal import make_raw, terminal_size
from vmm.channel.title import Title

INTERRUPT = b"\x03"


class Program(NamedTuple):
    """What a session is started with, when it does not run yet."""

    argv: Sequence[str]
    user: str | int
    cwd: str | None
    env: Mapping[str, str]


class Left(NamedTuple):
    """How this terminal left a session: detached, or with its program, which ended with `code`."""

    detached: bool
    code: int


def attach_session(
    control: Path,
    name: str,
    program: Program | None,
    *,
    detach_keys: bytes = b"",
    read_only: bool = False,
    notice: Callable[[], str] | None = None,
) -> Left:
    """Join the terminal on descriptors 0 and 1 to the session `name` of the guest behind the relay at `control`.

    Without such a session one is started, if there is a `program`. `detach_keys` are control characters; what the
    terminal sends besides goes to the program, but for `read_only`, where ^C detaches, too. `notice` says,
    about once a second, what the terminal's title is to be; "" leaves it to the program. A terminal that is closed
    and a signal (TERM, HUP, INT, QUIT) only detach: `code` is then 128 + the signal's number. To be called in the main
    thread. Raises GuestError.
    """
    given: dict[str, Any] = {"detach_keys": detach_keys, "read_only": read_only, "notice": notice}
    with Visit(control, name, program, **given) as visit, watch_signals(visit):
        return Left(code=visit.run(), detached=visit.detached)


class Visit(Attachment):
    """A session that has been asked for; `run` joins it to this terminal."""

    OPERATION = "session"
    SIGNALS = (*Attachment.SIGNALS, signal.SIGCONT)
    SPARE = HELD
    GLANCE_S = 1.0

    def __init__(
        self,
        control: Path,
        name: str,
        program: Program | None,
        *,
        detach_keys: bytes,
        read_only: bool,
        notice: Callable[[], str] | None,
    ) -> None:
        self.detached = False
        self._notice = notice
        self._title = Title()
        self._text = ""  # of the title
        self._next_look = 0.0
        self._read_only = read_only
        self._watch = KeyWatch(detach_keys)
        given = program or Program((), "", None, {})
        super().__init__(
            control,
            given.argv,
            tty=True,
            interactive=True,
            user=given.user,
            cwd=given.cwd,
            env=given.env,
            more={"name": name, "read_only": read_only},
        )

    def run(self) -> int:
        try:
            code = super().run()
        finally:
            with contextlib.suppress(OSError):
                os.write(1, self._own + self._title.end())
        if self.detached:
            import termios

            # What the terminal has answered to the program is not for the shell.
            with contextlib.suppress(termios.error):
                termios.tcflush(0, termios.TCIFLUSH)
        return code

    def _aside(self) -> bytes:
        if self._notice is not None and time.monotonic() >= self._next_look:
            self._text = self._notice()
            self._next_look = time.monotonic() + self.GLANCE_S
        return self._title.show(self._text)

    def _passed(self, data: bytes) -> None:
        self._title.saw(data)

    def _typed(self, data: bytes) -> bytes:
        passed, self.detached = self._watch.feed(data)
        if self._read_only:
            self.detached = self.detached or INTERRUPT in passed
            passed = b""
        return passed

    def _feed(self) -> None:
        super()._feed()
        if self.detached and not self._command.ended:
            self._break_off(0)

    def _end_input(self) -> None:
        self._break_off(128 + signal.SIGHUP)  # the terminal is gone

    def _signalled(self, number: int) -> None:
        if number == signal.SIGCONT:
            # Whoever had the terminal meanwhile has set it as it likes, and has written over the screen.
            with contextlib.suppress(OSError):
                make_raw(0)
            self._queue += self._command.control(resize=list(terminal_size()), repaint=True)
        else:
            super()._signalled(number)

    def _must_restore(self, code: int | None) -> bool:
        return os.isatty(1)  # the program is not there any more, or goes on without us
