"""How the life of a sandbox ends: its machine does, somebody asks for it, or nobody uses it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import EngineError
from engine.guest.guest import Guest
from engine.state.configuration import load_running
from engine.state.instances import Instance
from engine.state.layout import Layout
from engine.supervisor.held_ports import Listeners, start_waker, wait_for_waker
from engine.supervisor.idle import Idle, Use, spell, wait_idle
from engine.supervisor.keeping import Keeper
from engine.supervisor.pausing import Pauser
from engine.supervisor.ports import OpenPorts
from engine.supervisor.record import update_record
from engine.supervisor.stopping import Stopper
from vmm.errors import VmmError

Log = Callable[[str], object]


class Ends:
    """All ways in which the sandbox of this process can end. `stop` is set by `down` and by signals.

    `variables` are those of the user's environment that it was started with: who wakes it when it is paused needs them.
    """

    def __init__(
        self,
        guest: Guest,
        ports: OpenPorts,
        layout: Layout,
        record: Instance,
        stop: asyncio.Event,
        keeper: Keeper,
        pauser: Pauser,
        stopper: Stopper,
        variables: Mapping[str, str],
    ) -> None:
        self._guest = guest
        self._ports = ports
        self._layout = layout
        self._record = record
        self._stop = stop
        self._keeper = keeper
        self._pauser = pauser
        self._stopper = stopper
        self._variables = variables
        self._unused: str | None = None  # for how long, once it is paused or stopped for that
        self._held: Listeners = []
        self._not_held: OSError | None = None
        self._waker: object = None  # kept, since the waker waits for the end of what leads to it
        pauser.on_paused = self._hold_ports

    async def wait(self, log: Log) -> int:
        """Wait for the end, and write down which it was. Returns the exit code of the process."""
        resting = asyncio.create_task(self._rest_when_idle(log))
        events = (self._guest.machine.wait, self._stop.wait, self._pauser.paused.wait, self._stopper.stopped.wait)
        tasks = [asyncio.create_task(event()) for event in events]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._stopper.begun.is_set():
                await asyncio.wait((tasks[1], tasks[3]), return_when=asyncio.FIRST_COMPLETED)
            return await self._end(has_ended=tasks[0].done(), log=log)
        finally:
            for task in (resting, *tasks):
                task.cancel()
            await asyncio.gather(resting, *tasks, return_exceptions=True)

    async def _end(self, *, has_ended: bool, log: Log) -> int:
        if self._pauser.paused.is_set():
            self._write(state="paused", ended=self._unused)
            await self._start_waker(log)  # whoever goes on looks for it as soon as the machine has ended
            await self._guest.machine.quit()
            return 0
        if self._stopper.stopped.is_set():
            why = "; ".join(filter(None, (self._unused, self._stopper.forced)))
            self._write(state="stopped", ended=why or None)
            return 0
        if not has_ended and self._keeper.end:
            await self._save(log)
        if self._stop.is_set():
            return 0
        words = self._guest.machine.last_words()
        self._write(state="failed", error=f"the machine ended by itself\n{words}")
        return 1

    def _hold_ports(self) -> None:
        """Never raises: it is paused already, and must not run on."""
        if self._pauser.release_ports:
            return
        try:
            self._held = self._ports.let_go()
        except OSError as error:  # too few descriptors, say
            self._not_held = error

    async def _start_waker(self, log: Log) -> None:
        """Have somebody listen on the published ports until it goes on. It does without where that fails."""
        if self._not_held is not None:
            log(f"nobody listens on its ports while it is paused: {self._not_held}")
        if not self._held:
            return
        name = self._record.name
        paths = self._layout.instance(name)
        try:
            where, paused = self._layout.waker(name), paths.paused.directory
            waker = start_waker(name, where, paused, self._held, self._variables, paths.supervisor_log)
            self._waker = waker
            await wait_for_waker(waker, where)
        except OSError as error:
            log(f"nobody listens on its ports while it is paused: {error}")
        for _, listener in self._held:
            listener.close()

    async def _rest_when_idle(self, log: Log) -> None:
        """Stop or pause the sandbox when nobody has used it for as long as its file says. What fails is tried again."""
        while True:
            seconds, do = await self._idle()
            if self._keeper.end:
                await self._save(log)
            self._unused = f"nobody used it for {spell(seconds)}"
            try:
                await (self._pauser.pause() if do == "pause" else self._stopper.stop())
                return
            except (EngineError, VmmError) as error:  # a full disk, say: it runs on
                self._unused = None
                log(f"it is idle, and could not {do}: {error.brief}")

    async def _idle(self) -> tuple[float, str]:
        setting = Idle.of(None)

        def limit() -> float | None:
            nonlocal setting
            running = load_running(self._layout, self._record.name)
            setting = Idle.of(running.configuration.sandbox["machine"].get("idle") if running else None)
            return setting.after

        use = Use(
            lambda: self._guest.channel.streams - self._ports.connections,
            lambda: self._guest.gateway.connections,
            lambda: self._ports.connections,
            self._guest.machine.pid,
        )
        return await wait_idle(use, limit), setting.do

    async def _save(self, log: Log) -> None:
        if (why := await self._keeper.save()) is not None:
            log(f"what was to be kept of the agent is as it was before: {why}")

    def _write(self, **changes: Any) -> None:
        update_record(self._layout, self._record, **changes)
