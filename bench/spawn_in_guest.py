"""Runs in the guest as root, as text on python3's standard input: starting `true` as a user, and waiting for its end.

Arguments: the user, how many runs. Prints a JSON object: what started it -> list of seconds. guestd's own functions are
beside what any program of the guest would do; both are in a process that has loaded as much as guestd has.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

sys.path.append("/usr/lib/sandbox")

from guestd import loop, process  # noqa: F401 - a fork takes longer the more is loaded

REQUEST = {"argv": ["true"], "user": sys.argv[1], "cwd": None, "env": {}, "stdin": False, "tty": False}
BEFORE = 3  # runs that are not counted


def by_guestd() -> None:
    child = process.spawn(REQUEST)
    child.process.wait()
    for descriptor in (child.pidfd, *child.outputs):
        os.close(descriptor)


def by_subprocess() -> None:
    subprocess.run(["true"], user=sys.argv[1], stdin=subprocess.DEVNULL, capture_output=True, check=True)


def seconds_of(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    works = {"guestd's own functions": by_guestd, "subprocess.run in the guest": by_subprocess}
    seconds: dict[str, list[float]] = {what: [] for what in works}
    for run in range(-BEFORE, int(sys.argv[2])):
        for what, work in works.items():
            took = seconds_of(work)
            if run >= 0:
                seconds[what].append(took)
    print(json.dumps(seconds))


main()
