"""guestd's look at the timers of its processors, of what Linux says of them."""

from __future__ import annotations

import os
import threading

import pytest

from vmm.guest.guestd import processors

TIMERS = """\
Timer List Version: v0.9
HRTIMER_MAX_CLOCK_BASES: 8
now at 100000000000 nsecs

cpu: 0
 clock 0:
  .base:       0000000000000000
active timers:
 #0: <0000000000000000>, tick_nohz_handler, S:01
 # expires at 95500000000-95500000000 nsecs [in -4500000000 to -4500000000 nsecs]
  .expires_next   : 95500000000 nsecs
  .hres_active    : 1

cpu: 1
 clock 0:
  .expires_next   : 9223372036854775807 nsecs

cpu: 2
 clock 0:
  .expires_next   : 99900000000 nsecs

Tick Device: mode:     1
Per CPU device: 0
 next_event:     95500000000 nsecs
"""


def test_a_processor_is_late_whose_timer_should_have_come() -> None:
    """One that waits for nothing is not, nor one whose timer is about to come."""
    assert processors.late_processors(TIMERS) == {"0": 4.5}


@pytest.mark.parametrize("text", ["", "now at 5 nsecs\n", TIMERS.partition("\n\n")[2]])
def test_a_list_that_says_nothing_of_it_names_nobody(text: str) -> None:
    assert processors.late_processors(text) == {}


def test_the_thread_may_run_everywhere_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "read_text", lambda path: TIMERS)
    been: list[set[int]] = []
    pin = os.sched_setaffinity
    usual = os.sched_getaffinity(0)
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, where: (been.append(set(where)), pin(thread, where))[1])
    assert processors.rouse({}, threading.Event()) == {"late": {"0": 4.5}}
    assert been == [*({processor} for processor in sorted(usual)), usual]
    assert os.sched_getaffinity(0) == usual
