"""The channel between host and guest: CLI <-> supervisor <-> guestd, one multiplex of framed streams.

`GuestChannel` is an end that asks, `Relay` the supervisor's middle, `client` what a command uses, `copy` moves files,
`attach` joins a command in the guest to this process. The wire itself is described in `vmm.guest.guestd.wire`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmm.channel.copy import copy_in, copy_out, send_tree
    from vmm.channel.errors import GuestError
    from vmm.channel.greeting import Hello
    from vmm.channel.guest import Completed, ExecStream, GuestChannel
    from vmm.channel.relay import Relay
    from vmm.channel.stream import LocalStream, Stream

__all__ = [
    "Completed",
    "ExecStream",
    "GuestChannel",
    "GuestError",
    "Hello",
    "LocalStream",
    "Relay",
    "Stream",
    "copy_in",
    "copy_out",
    "send_tree",
]

_HOMES = {
    "Completed": "guest",
    "ExecStream": "guest",
    "GuestChannel": "guest",
    "GuestError": "errors",
    "Hello": "greeting",
    "LocalStream": "stream",
    "Relay": "relay",
    "Stream": "stream",
    "copy_in": "copy",
    "copy_out": "copy",
    "send_tree": "copy",
}


def __getattr__(name: str) -> Any:
    # Imported when asked for: `attach` does without asyncio, which would take half of the start of `sandbox exec`.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
