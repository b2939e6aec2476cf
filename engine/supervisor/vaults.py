"""The values of a sandbox's secrets, read by its supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.gateway.context import Keep
from engine.gateway.injection import Secrets
from engine.secrets.errors import SecretError
from engine.secrets.places import SecretPlaces
from engine.state.layout import Layout

KEEP_S = 10.0  # that a guest waits for a keyring to take what was renewed


@dataclass(frozen=True)
class OpenVault:
    """`value` gives the value of a secret at each moment, `keep` takes those that were renewed."""

    value: Secrets
    keep: Keep


async def open_vault(places: SecretPlaces, layout: Layout, tell: Callable[[str], None]) -> OpenVault:
    """Read all of them.

    `tell` hears of warnings, and later of values that come, change or go, from any thread. A keyring or a command may
    ask the user, and takes as long as that. Raises SecretError when one has no value.
    """
    from engine.secrets.store import Store
    from engine.secrets.vault import Vault

    store = Store(layout.secrets, layout.secrets_lock)
    vault = await asyncio.to_thread(
        Vault,
        places.sources,
        places.environment,
        store,
        tell,
        answers=dict(places.answers),
        missing=places.missing,
    )

    async def keep(values: Mapping[str, str]) -> None:
        try:
            vault.renew(values)
        except SecretError as error:
            tell(f"what was renewed is lost: {error.brief}")
            return
        loop, kept = asyncio.get_running_loop(), asyncio.Event()

        def write() -> None:
            vault.keep(tuple(values))
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(kept.set)

        # Not the loop's own threads: its end would wait for a keyring that asks nobody any more.
        threading.Thread(target=write, name="secrets", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KEEP_S):
                await kept.wait()

    return OpenVault(vault.value, keep)
