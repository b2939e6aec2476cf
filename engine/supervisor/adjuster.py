"""Changing a sandbox while it runs: the supervisor's side of a live `up`.

The parts are applied one after another, and what is written down is right after each: a part that was begun counts as
unfinished until it is done, so that the next `up` does it again, whatever ends this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.guest.advice import advice_on_refusals
from engine.guest.guest import Guest, make_authority, names_file
from engine.guest.identity import as_files, note_files
from engine.guest.services import (
    get_images,
    look_at_services,
    put_contexts,
    put_project,
    remove_services,
    start_services,
    wait_healthy,
)
from engine.project.tree import ContentChanged, ProjectTree
from engine.state.configuration import Part, Running, load_running, save_running
from engine.state.instances import load_instance, save_instance
from engine.state.layout import Layout
from engine.supervisor.adjustment import Adjustment
from engine.supervisor.held_lines import HeldLines
from engine.supervisor.launch import Launch
from engine.supervisor.ports import OpenPorts
from engine.supervisor.vaults import open_vault
from vmm.channel.stream import LocalStream
from vmm.errors import VmmError

FILES_S = 60.0

Log = Callable[[str], None]


class Adjuster:
    """Adjusts the sandbox `name` of this process, one request at a time."""

    def __init__(
        self, layout: Layout, name: str, guest: Guest, ports: OpenPorts, busy: asyncio.Lock | None = None
    ) -> None:
        self.changed: dict[str, Any] = {}  # what is another one by now in the sandbox's Launch
        self._identity: dict[str, Any] = {}  # the same of the guest's identity
        self._layout = layout
        self._name = name
        self._guest = guest
        self._ports = ports
        self.busy = busy or asyncio.Lock()
        self._arming = asyncio.Lock()
        self.on_endpoints: Callable[[], None] = lambda: None  # called when those of the file have changed

    def revise(self, launch: Launch) -> Launch:
        """The Launch of this sandbox as it would be now."""
        environment = {**launch.identity.environment, **self._identity.get("environment", {})}
        identity = replace(launch.identity, **{**self._identity, "environment": environment})
        return replace(launch, **self.changed, identity=identity)

    async def handle(self, request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        """The operation `apply`: an Adjustment in, lines of progress, and at the end {applied, failed}.

        `applied` names the parts that are in force now; `failed` is None or says of the first that could not be applied
        which it is and why, and in `changed` what of the project is not what the request has the key of. Cancelled when
        the client goes away.
        """
        adjustment = Adjustment.from_json(request)
        async with self.busy, _lines(stream) as log:
            applied: list[Part] = []
            for part, sections in adjustment.parts.items():
                self._begin(part)
                try:
                    with advice_on_refusals(self._guest.gateway):
                        await self._apply(part, adjustment, log)
                except (VmmError, EngineError, OSError) as error:
                    return {"applied": applied, "failed": {"part": part, **_describe(error)}}
                self._finish(part, adjustment, sections)
                applied.append(part)
            await self._renew_note(adjustment)
            self._write(replace(self._running(), configuration=adjustment.configuration))
            self._record(plan_key=adjustment.configuration.key())
        return {"applied": applied, "failed": None}

    async def _apply(self, part: Part, adjustment: Adjustment, log: Log) -> None:
        match part:
            case "endpoints":
                await self._apply_endpoints(adjustment, log)
            case "ports":
                await self._apply_ports(adjustment, log)
            case "services":
                await self._apply_services(adjustment, log)
            case "record":
                self._record(agent=adjustment.agent, keeps=adjustment.keeps)
                rate = adjustment.configuration.sandbox.get("machine", {}).get("network_rate")
                self.changed["network_rate"] = rate
                self._guest.gateway.pace(rate)

    async def _apply_endpoints(self, adjustment: Adjustment, log: Log) -> None:
        log("changing what it may reach")
        policy, gateway = adjustment.policy(), self._guest.gateway
        identity: dict[str, Any] = {}
        if policy.looks_inside:
            await self.arm()
        if adjustment.secrets.sources:
            vault = await open_vault(adjustment.secrets, self._layout, log)
            gateway.arm(secrets=vault.value, keep=vault.keep)
        if adjustment.environment:
            identity["environment"] = dict(adjustment.environment)
        self.changed |= {"rules": adjustment.rules, "secrets": adjustment.secrets}
        unheard = gateway.set_policy(policy)
        self.on_endpoints()
        if unheard:
            ports = ", ".join(map(str, unheard))
            raise EngineError(
                f"a new machine is needed: this one cannot reach port {ports}",
                hint="`sandbox up --recreate` replaces it",
            )
        # The files of groups that went away stay: what they name is refused.
        files = (*adjustment.files, names_file(gateway))
        identity["files"] = [*as_files(files), *as_files(adjustment.seeds, owner=adjustment.user)]
        await self._guest.channel.call("identity", timeout_s=FILES_S, **identity)
        more = {**self._identity.get("environment", {}), **adjustment.environment}
        self._identity = {"files": adjustment.files, "environment": more}

    async def arm(self) -> None:
        """Have a certificate authority, which the guest trusts before anything is intercepted. Raises GuestError."""
        async with self._arming:
            if self._guest.gateway.authority is not None:
                return
            authority = make_authority(self._name)
            await self._guest.channel.call("identity", timeout_s=FILES_S, certificate=authority.certificate)
            self._guest.gateway.arm(authority=authority)

    async def _apply_ports(self, adjustment: Adjustment, log: Log) -> None:
        log("changing the host's ports")
        try:
            await self._ports.change(adjustment.forwards)
        finally:
            forwards = sorted(self._ports.forwards, key=lambda forward: forward.host_port)
            self.changed["forwards"] = tuple(forwards)
            self._record(ports=[{"host": forward.host_port, "guest": forward.guest_port} for forward in forwards])

    async def _apply_services(self, adjustment: Adjustment, log: Log) -> None:
        channel, project = self._guest.channel, adjustment.project
        names = tuple(sorted(project.services)) if project is not None else ()
        self.changed |= {"services": names, "project_name": adjustment.project_name}
        if project is None:
            log("removing all services")
            await remove_services(channel, adjustment.project_name, log)
            self._record(services={})
            return
        try:
            with ProjectTree.open(Path(project.root), project.identity) as tree:
                changed = [name for name in project.built if name in adjustment.images]
                await put_contexts(channel, tree, project, changed, log)
                await put_project(channel, tree, project, log)
            await get_images(channel, project, adjustment.images, log)
            log("starting services")
            await start_services(channel, project.services, log)
            log("checking the health of services")
            rows = await wait_healthy(channel, project.name, project.services)
        except (VmmError, EngineError):
            # Whatever became of them, they can be asked for by name: `sandbox logs SERVICE` is what helps now.
            rows = await look_at_services(channel, project.name, project.services)
            self._record(services={row["name"]: row for row in rows})
            raise
        self._record(services={row["name"]: row for row in rows})

    async def _renew_note(self, adjustment: Adjustment) -> None:
        """What the agent has been told about its machine follows. A guest that does not take it keeps the old one."""
        if files := list(note_files(adjustment.note, adjustment.user)):
            with contextlib.suppress(VmmError):
                await self._guest.channel.call("identity", timeout_s=FILES_S, files=files)

    def _begin(self, part: Part) -> None:
        running = self._running()
        self._write(replace(running, unfinished=(*(one for one in running.unfinished if one != part), part)))

    def _finish(self, part: Part, adjustment: Adjustment, sections: tuple[str, ...]) -> None:
        running = self._running()
        left = tuple(one for one in running.unfinished if one != part)
        configuration = running.configuration.adopt(adjustment.configuration, sections)
        running = replace(running, configuration=configuration, unfinished=left)
        self._write(replace(running, kinds=adjustment.kinds) if part == "endpoints" else running)

    def _running(self) -> Running:
        running = load_running(self._layout, self._name)
        if running is None:
            raise EngineError(f"what {self._name} runs with is not known any more")
        return running

    def _write(self, running: Running) -> None:
        save_running(self._layout, self._name, running)

    def _record(self, **changes: Any) -> None:
        if (record := load_instance(self._layout, self._name)) is not None:
            save_instance(self._layout, record._replace(**changes))


def _describe(error: Exception) -> dict[str, Any]:
    failure = EngineError.of(error)
    return {
        "brief": failure.brief,
        "details": failure.details,
        "hint": failure.hint,
        "changed": error.path if isinstance(error, ContentChanged) else None,
    }


@contextlib.asynccontextmanager
async def _lines(stream: LocalStream) -> AsyncIterator[Log]:
    """A log whose lines go to the client as JSON, one object a line. A client that does not read gets fewer."""
    held, changed, ended = HeldLines(), asyncio.Event(), False

    def log(text: str) -> None:
        held.put(text)
        changed.set()

    async def pump() -> None:
        while True:
            while (text := held.take()) is not None:
                await stream.send(json.dumps({"text": text}).encode() + b"\n")
            if ended:
                return
            changed.clear()
            await changed.wait()

    pumping = asyncio.create_task(pump())
    try:
        yield log
        ended = True
        changed.set()
        await pumping
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)
