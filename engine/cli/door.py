"""What a command does before anything else: it makes sure that descriptors 0, 1 and 2 are open."""

from __future__ import annotations

import contextlib
import io
import os
import sys


def open_closed_streams() -> None:
    """Open the null device in the place of each standard stream that is closed.

    Cron, daemons and `>&-` start programs with closed streams. The next descriptor that we open, such as a socket,
    would then get the number 0, 1 or 2, and what we print would go into that socket.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, usually this one
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        with contextlib.suppress(OSError):
            # A name with characters that the encoding of stdout lacks must not make a command fail.
            sys.stdout.reconfigure(errors="backslashreplace")
