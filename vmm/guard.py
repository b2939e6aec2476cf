"""Remove a directory when its owner is gone, however that ended. A script: `guard.py DIRECTORY [WORD...]`.

The words are a command that is run before, in that directory; it gets COMMAND_S, and this process's environment.

Its stdin is the read end of a pipe whose only writer is the owner. Stdlib only; started in a session of its own so
that a signal to the owner's process group does not reach it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys

COMMAND_S = 120.0


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    directory, *command = sys.argv[1:]
    if command:
        import subprocess

        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, timeout=COMMAND_S, check=False)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
