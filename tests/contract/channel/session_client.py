"""A terminal that joins a session: `session_client.py CONTROL [-r] [-k KEYS] NAME [COMMAND...]`.

Ends with the session's code; prints `detached`, when that is how it left.
"""

from __future__ import annotations

import getopt
import os
import sys
from pathlib import Path

from vmm.channel.detach_keys import parse_keys
from vmm.channel.session import Program, attach_session


def main() -> None:
    options, (name, *argv) = getopt.getopt(sys.argv[2:], "rk:")
    given = dict(options)
    program = Program(argv, os.geteuid(), None, {"PS1": "$ "}) if argv else None
    keys = parse_keys(given.get("-k", "ctrl-\\,ctrl-d")).keys
    left = attach_session(Path(sys.argv[1]), name, program, detach_keys=keys, read_only="-r" in given)
    if left.detached:
        print("detached", flush=True)
    sys.exit(left.code)


if __name__ == "__main__":
    main()
