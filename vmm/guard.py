"""Remove a directory when the process that owned it is gone, however it ended. A script: `guard.py DIRECTORY...`.

Its stdin is the read end of a pipe whose only writer is the owner. Stdlib only; started in a session of its own so
that a signal to the owner's process group does not reach it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    for directory in sys.argv[1:]:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
