"""Run a command that dies with the process that started it, and shut it in.

Used as a script: `leash.py PARENT_PID JAIL COMMAND...`, where JAIL is what `vmm/jail.py` makes, or empty. Stdlib only
and started with `-I -S`, because it stands in front of every child process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    parent, jail, argv = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The parent may have died between fork and prctl: then nobody would send the signal.
        if os.getppid() != parent:
            os._exit(125)
    try:
        if jail and sys.platform == "linux":
            _become_confined(jail, argv)
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.stderr.write(f"cannot run {argv[0]}: {error.strerror}\n")
        os._exit(127)
    except (MemoryError, RuntimeError) as error:  # no memory for a module, or for a thread
        sys.stderr.write(f"cannot run {argv[0]}: {error or 'no memory'}\n")
        os._exit(126)


def _become_confined(jail: str, argv: list[str]) -> None:
    """Raises OSError when the command cannot be started; ends the process when it cannot be shut in."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
    from vmm.shut_in import become_program, shut_in

    try:
        asked = shut_in(jail)
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"cannot shut in {argv[0]}: {error}\n")
        os._exit(126)
    become_program(argv, asked)


if __name__ == "__main__":
    main()
