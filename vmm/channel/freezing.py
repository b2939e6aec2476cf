"""The guest's programs standing still while its machine is written: see `vmm.guest.guestd.freezer`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel

FREEZE_S = 5.0  # guestd itself waits for four seconds


@contextlib.asynccontextmanager
async def frozen(channel: GuestChannel) -> AsyncIterator[bool]:
    """Within the block all programs of the guest stand still, for some seconds of its time at most; then they go on.

    Yields whether all of them did in time, as the guest says: it may lie, and only harms itself. In a machine that
    begins where it is within the block they go on when that is given an identity. A guest that does not know how, or
    does not answer in FREEZE_S, is written as it is.
    """
    try:
        stood_still = False
        with contextlib.suppress(GuestError):
            stood_still = (await channel.call("freeze", timeout_s=FREEZE_S)).get("frozen") is True
        yield stood_still
    finally:
        with contextlib.suppress(GuestError):
            await channel.call("thaw", timeout_s=FREEZE_S)
