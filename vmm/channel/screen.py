"""The modes that a program in the guest has switched on in our terminal, to be switched off when it cannot do so."""

from __future__ import annotations

import contextlib
import os

from vmm.guest.guestd.modes import Modes


class Screen(Modes):
    """Reads along what goes to a terminal."""

    def restore(self, fd: int) -> None:
        """Switch off what is still on, if `fd` is a terminal, and let the text begin on a line of its own."""
        if not os.isatty(fd) or not (words := self.off()):
            return
        with contextlib.suppress(OSError):
            os.write(fd, words + b"\x1b[0m\r\n")
