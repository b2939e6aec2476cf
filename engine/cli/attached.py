"""Commands of a guest, on this process's own streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def run_attached(
    control: Path,
    argv: Sequence[str],
    *,
    user: str,
    cwd: str | None,
    env: Mapping[str, str] | None = None,
    tty: bool = False,
    interactive: bool = False,
) -> int:
    """Run `argv` behind the control socket and return its exit code, 128 + N when signal N ended it.

    Raises GuestError when nobody answers on the socket.
    """
    import asyncio

    from vmm.channel.client import attach, connect

    async def joined() -> int:
        async with await connect(control) as client:
            return await attach(client, argv, tty=tty, interactive=interactive, user=user, cwd=cwd, env=env)

    return asyncio.run(joined())
