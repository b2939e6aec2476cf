"""The operations that change what a running sandbox may reach without its file."""

from __future__ import annotations

from collections.abc import Mapping

from engine.guest.guest import Guest
from engine.state.layout import Layout
from engine.supervisor.adjuster import Adjuster
from engine.supervisor.asking import Asking
from engine.supervisor.temporary import TemporaryRules
from vmm.channel.relay import Handler


def live_handlers(
    layout: Layout, name: str, guest: Guest, adjuster: Adjuster, temporary: TemporaryRules | None = None
) -> Mapping[str, Handler]:
    """For the sandbox `name` of this process; `adjuster` is the one that changes what its file says."""
    temporary = temporary or TemporaryRules(layout, name, guest, adjuster.arm)
    adjuster.on_endpoints = temporary.revise
    asking = Asking(layout, name, guest.gateway)
    return {"temporary": temporary.handle, "ask": asking.watch, "dismiss": asking.dismiss}
