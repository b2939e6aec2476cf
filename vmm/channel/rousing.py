"""Helping a guest whose processor has lost its timer: see `vmm.guest.guestd.processors`.

Nobody can see it from outside: what was asked has no answer, as of a command that takes long. So a guest is asked to
set its timers again after something has been open for a while, and now and then while it stays open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel

LOOK_S = 3.0
EARLY_S = (3.0, 9.0, 30.0)  # ages of what is open
EACH_S = 60.0  # after these
ANSWER_S = 10.0


async def keep_roused(channel: GuestChannel, log: Callable[[str], object]) -> None:
    """Have the guest set its timers again while what was asked of it is open. `log` gets a line for each that was lost.

    Ends only when it is cancelled: a guest that does not do so is none of ours.
    """
    while True:
        await channel.opened.wait()
        channel.opened.clear()
        while ages := await _ages(channel):
            if not is_due(ages):
                continue
            try:
                answer = await channel.call("rouse", timeout_s=ANSWER_S)
            except GuestError:
                continue
            for number, seconds in _lost(answer.get("late")):
                log(f"processor {number} of the machine had lost its timer for {seconds:.1f} s: it is set again")


def is_due(ages: Iterable[float]) -> bool:
    """Whether something has come to one of the ages within the last LOOK_S; ages are in seconds."""
    return any(
        any(age - LOOK_S < early <= age for early in EARLY_S) or age // EACH_S > (age - LOOK_S) // EACH_S >= 0
        for age in ages
    )


async def _ages(channel: GuestChannel) -> list[float]:
    """In a while: how long each thing that was asked has been open. Empty when nothing is."""
    await asyncio.sleep(LOOK_S)
    now = asyncio.get_running_loop().time()
    return [now - began for began in channel.began]


def _lost(late: object) -> list[tuple[int, float]]:
    """(number, seconds) of what a guest says, which may be anything."""
    if not isinstance(late, Mapping):
        return []
    said = [(number, seconds) for number, seconds in list(late.items())[:8] if isinstance(seconds, int | float)]
    return [(int(number), seconds) for number, seconds in said if number.isdecimal() and len(number) < 5]
