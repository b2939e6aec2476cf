"""The guest's programs standing still while its machine is written: see `vmm.guest.guestd.freezer`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel

FREEZE_S = 5.0  # guestd itself waits for a second


@contextlib.asynccontextmanager
async def frozen(channel: GuestChannel) -> AsyncIterator[None]:
    """Within the block all programs of the guest stand still, for some seconds of its time at most; then they go on.

    In a machine that begins where it is within the block they go on when that is given an identity. A guest that does
    not do so, or not in FREEZE_S, is written as it is: nobody but itself has a harm from that.
    """
    try:
        with contextlib.suppress(GuestError):
            await channel.call("freeze", timeout_s=FREEZE_S)
        yield
    finally:
        with contextlib.suppress(GuestError):
            await channel.call("thaw", timeout_s=FREEZE_S)
