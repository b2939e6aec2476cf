"""A sandbox that is there for one command (`run`): it ends with that command, however the command ends."""

from __future__ import annotations

import asyncio
from typing import Any

from engine.errors import EngineError
from engine.state.instances import forget_instance, hold_name
from engine.state.layout import Layout
from vmm.channel.stream import LocalStream

TIED_S = 60.0  # from `ready` until the command has tied itself to it: the host may be busy


class Tie:
    """What a command holds while it needs the sandbox. `torn`: the command was killed, so nobody takes it down."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._tied = asyncio.Event()
        self._loose = False
        self.torn = False

    async def expect(self) -> None:
        """End the sandbox where no command has tied itself to it within TIED_S: it was killed before."""
        try:
            async with asyncio.timeout(TIED_S):
                await self._tied.wait()
        except TimeoutError:
            self.tear()

    async def handle(self, request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        """The operation `tie`: no answer comes, and the sandbox ends when the client goes. {keep: true}: it stays."""
        self._tied.set()
        if request.get("keep") is True:
            self.loosen()
            return {}
        try:
            await asyncio.Event().wait()
        finally:
            self.tear()
        raise AssertionError("nobody sets it")

    def loosen(self) -> None:
        """From now on it does not end with any command: it is to stay, or ends already."""
        self._loose = True

    def tear(self) -> None:
        """The command is gone."""
        if not self._loose and not self._stop.is_set():
            self.torn = True
            self._stop.set()


def forget_torn(layout: Layout, name: str) -> str | None:
    """Remove the files of a sandbox whose command was killed; its supervisor does that last of all. Returns why not."""
    try:
        with hold_name(layout, name):
            forget_instance(layout, name)
    except (EngineError, OSError) as error:  # another command takes care of it just now
        return str(error)
    return None
