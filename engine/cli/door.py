"""What is done before anything else: descriptors 0, 1 and 2 are there, whatever started us."""

from __future__ import annotations

import contextlib
import io
import os
import sys


def open_closed_streams() -> None:
    """Cron, daemons and `>&-` leave some of them closed. Then the next thing that is opened, a socket of ours, would be
    taken for our output. The null device stands for each: nothing to read, nobody who reads.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        with contextlib.suppress(OSError):
            sys.stdout.reconfigure(errors="backslashreplace")  # a name that its encoding lacks is no reason to fail
