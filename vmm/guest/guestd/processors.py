"""Setting the timers of the machine's processors again, where one of them was lost.

A processor whose timer's interrupt never came waits for it for ever: the kernel takes the timer for set, and sets it
anew only for what is due sooner than that. Whatever waits on this processor for time to pass waits with it. Seen of
QEMU's emulation, in about one of a thousand machines that were restored.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading

from .failure import Json
from .system import read_text

TIMERS = "/proc/timer_list"  # of Linux, for root (kernel/time/timer_list.c)
CLOCK_MONOTONIC, TIMER_ABSTIME = 1, 1  # <time.h> of Linux
LATE_S = 1.0
_NOW = re.compile(r"^now at (\d+) nsecs$", re.MULTILINE)
_NEXT = re.compile(r"^cpu: (\d+)$.*?^ *\.expires_next +: (\d+) nsecs$", re.MULTILINE | re.DOTALL)


class _Moment(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def rouse(request: Json, cancelled: threading.Event) -> Json:
    """Have each processor look at its timers now: {late: {number: seconds}}, of those that did not when they should.

    A sleep until a moment that has long been is due sooner than anything else, so each processor sets its timer anew.
    Takes some milliseconds.
    """
    late = late_processors(read_text(TIMERS))
    libc = ctypes.CDLL(None)
    long_ago = _Moment(0, 1)
    usual = os.sched_getaffinity(0)  # of this thread
    try:
        for processor in sorted(usual):
            os.sched_setaffinity(0, {processor})
            libc.clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, ctypes.byref(long_ago), None)
    finally:
        os.sched_setaffinity(0, usual)
    return {"late": late}


def late_processors(timers: str) -> dict[str, float]:
    """Those whose next timer should have come LATE_S ago or longer, with the seconds, of what Linux says of timers."""
    now = _NOW.search(timers)
    if now is None:
        return {}
    since = {number: (int(now[1]) - int(due)) / 1e9 for number, due in _NEXT.findall(timers)}
    return {number: round(seconds, 1) for number, seconds in since.items() if seconds >= LATE_S}
