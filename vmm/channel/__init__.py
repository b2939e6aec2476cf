"""The channel between host and guest: CLI <-> supervisor <-> guest agent, one multiplex of framed streams.

`GuestChannel` is an end that asks, `Relay` the supervisor's middle, `client` what a command uses, `copy` moves files.
The wire itself is described in `vmm.guest.agent`.
"""

from __future__ import annotations

from vmm.channel.copy import copy_in, copy_out
from vmm.channel.errors import GuestError
from vmm.channel.guest import Completed, ExecStream, GuestChannel, Hello
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
]
