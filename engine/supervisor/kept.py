"""What a supervisor knows, on the disk while its sandbox waits: paused, or stopped with its disk alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from engine.decoding import decode
from engine.errors import EngineError
from engine.files import read_json, replace_private
from engine.gateway.server import Gateway
from engine.guest.guest import Guest
from engine.guest.network import doors_of
from engine.state.instance_paths import KeptPaths
from engine.state.trees import remove_tree
from engine.supervisor.adjuster import Adjuster
from engine.supervisor.launch import Launch
from engine.supervisor.temporary import SaidBefore, TemporaryRules
from vmm.errors import VmmError

if TYPE_CHECKING:
    from engine.gateway.authority import Authority


def write_kept(paths: KeptPaths, launch: Launch, guest: Guest, adjuster: Adjuster, temporary: TemporaryRules) -> None:
    """Write what the next supervisor needs: the Launch as it is by now without values, and what was allowed for now.

    Each file is on the disk when this returns. Raises OSError.
    """
    launch = adjuster.revise(launch).without_values()
    addresses = dict(guest.gateway.addresses)  # the guest remembers the answers of its resolver
    launch = replace(launch, addresses=addresses, doors=tuple(doors_of(launch.policy(), addresses)))
    replace_private(paths.launch, launch.to_json())
    replace_private(paths.temporary, json.dumps([asdict(one) for one in temporary.said]))
    if (authority := guest.gateway.authority) is not None:
        replace_private(paths.authority, authority.to_text())


async def in_thread(function: Callable[..., None], *parts: object) -> None:
    """Call what waits for the disk while others go on. It has ended when this has, also when this is cancelled: nobody
    writes beside the next try."""
    writing = asyncio.ensure_future(asyncio.to_thread(function, *parts))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.gather(writing, return_exceptions=True)
        raise


@dataclass(frozen=True)
class Kept:
    """What was `said` to be allowed and denied for the time being, and the sandbox's certificate authority."""

    said: tuple[SaidBefore, ...]
    authority: Authority | None

    @classmethod
    def read(cls, paths: KeptPaths) -> Kept:
        """Raises EngineError for files that cannot be read."""
        try:
            said = tuple(decode(SaidBefore, one) for one in read_json(paths.temporary))
            authority = _authority(paths.authority.read_text()) if paths.authority.exists() else None
        except (OSError, ValueError) as error:
            raise EngineError("what was kept of the sandbox cannot be read", str(error)) from error
        return cls(said, authority)

    def deny_first(self, gateway: Gateway) -> None:
        """What was denied is denied before the guest runs, and what was allowed, too."""
        gateway.accept_temporary()
        gateway.set_temporary(rule for one in self.said if one.holds for rule in one.endpoint.rules)

    async def hold_again(self, temporary: TemporaryRules, warn: Callable[[str], object]) -> None:
        """The same with its times, once the guest runs."""
        try:
            await temporary.hold_again(list(self.said))
        except (EngineError, VmmError) as error:  # what was denied is denied; the machine runs, and exists once
            warn(f"what was allowed for the time being does not hold any more: {error.brief}")


def remove_kept(paths: KeptPaths) -> None:
    """Best effort: what is left is of no use, and in nobody's way."""
    with contextlib.suppress(OSError):
        remove_tree(paths.directory)


def _authority(text: str) -> Authority:
    from engine.gateway.authority import Authority

    return Authority.from_text(text)
