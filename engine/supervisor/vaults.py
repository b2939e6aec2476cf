"""The values of a sandbox's secrets, read by its supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.gateway.injection import Secrets
from engine.secrets.places import SecretPlaces
from engine.state.layout import Layout


async def open_vault(places: SecretPlaces, layout: Layout, tell: Callable[[str], None]) -> Secrets:
    """Read all of them, and return what gives the value of one at each moment.

    `tell` hears of warnings, and later of values that come, change or go, from any thread. A keyring or a command may
    ask the user, and takes as long as that. Raises SecretError when one has no value.
    """
    from engine.secrets.store import Store
    from engine.secrets.vault import Vault

    store = Store(layout.secrets, layout.secrets_lock)
    vault = await asyncio.to_thread(Vault, places.sources, places.environment, store, tell)
    return vault.value
