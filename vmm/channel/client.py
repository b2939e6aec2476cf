"""What a command uses to talk to a sandbox: a GuestChannel to the supervisor's socket, as to the guest itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel


async def connect(path: Path, timeout_s: float = 5.0) -> GuestChannel:
    """Connect to the relay at `path`. Waits up to `timeout_s` for its hello; raises GuestError when nobody is there."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError as error:
        raise GuestError(
            "the sandbox's supervisor does not answer", f"{path}: {error.strerror}", "`sandbox ls` shows what runs"
        ) from None
    client = GuestChannel(reader, writer)
    try:
        await client.hello(timeout_s, flush=False)
    except BaseException:
        await client.close()
        raise
    return client
