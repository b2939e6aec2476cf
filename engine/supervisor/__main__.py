"""The process that owns one sandbox: QEMU, the file servers, the gateway, the ports and the control socket.

`up` starts it with a socket as standard input, sends one Launch as a line of JSON and reads events, one JSON object a
line, until `ready` or `failed`. Before that, the end of the socket (`up` was interrupted or killed) ends the sandbox;
after it, the supervisor lives until `down`, a signal, or the end of QEMU. Its death is the death of everything it owns.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.gateway.journal import Journal
from engine.gateway.proxies import Proxies
from engine.guest.advice import advice_on_refusals
from engine.guest.begun import Begun
from engine.guest.guest import Guest, NeverAnswered, begin_guest, hello_s
from engine.guest.services import look_at_services, start_services, wait_healthy, write_compose
from engine.scarcity import is_scarcity
from engine.secrets.core_dumps import forbid_core_dumps
from engine.secrets.redaction import hold
from engine.state.instance_paths import InstancePaths, KeptPaths
from engine.state.instances import Instance, load_instance
from engine.state.layout import Layout
from engine.state.troubles import read_troubles
from engine.supervisor.adjuster import Adjuster
from engine.supervisor.beginning import begin_machine
from engine.supervisor.begun_mounts import Again, try_again
from engine.supervisor.cloning import copying_clones, put_clones, putting_clones
from engine.supervisor.disk_room import keep_room
from engine.supervisor.ends import Ends
from engine.supervisor.events import Events
from engine.supervisor.forking import Forker
from engine.supervisor.held_ports import TakenPorts
from engine.supervisor.host_changes import HostChanges
from engine.supervisor.keeping import Keeper
from engine.supervisor.launch import Launch
from engine.supervisor.live import live_handlers
from engine.supervisor.log import redirect_output
from engine.supervisor.lost_mounts import LostMounts
from engine.supervisor.mounting import mount_all, plug_all, share_of
from engine.supervisor.pausing import Pauser, Resumption
from engine.supervisor.ports import OpenPorts
from engine.supervisor.record import update_record
from engine.supervisor.stopping import Starting, Stopper
from engine.supervisor.temporary import TemporaryRules
from engine.supervisor.tie import Tie, forget_torn
from engine.supervisor.troubles import Troubles, told_of_room
from engine.supervisor.vaults import open_vault
from vmm.channel.relay import Relay
from vmm.errors import VmmError
from vmm.private import private
from vmm.process import guarded_directory
from vmm.processor_share import DEFAULT, ProcessorShare
from vmm.snapshot import load_snapshot
from vmm.virtiofs import serve_directory


@dataclass
class RunningSandbox:
    """A started sandbox and what it reported about itself. `resumption` is how, if it was paused.

    Who holds `busy` needs the machine as it is.
    """

    launch: Launch
    guest: Guest
    ports: OpenPorts
    services: list[dict[str, Any]]
    busy: asyncio.Lock
    lost: LostMounts
    resumption: Resumption | None = None
    taken: TakenPorts | None = None


@contextlib.asynccontextmanager
async def _serve_mounts(
    launch: Launch,
    paths: InstancePaths,
    events: Events,
    changes: HostChanges,
    troubles: Troubles,
    lost: LostMounts,
) -> AsyncIterator[asyncio.Task[None]]:
    """The file servers of all mounts, for the length of the block; they start while the machine does, in the task."""
    async with contextlib.AsyncExitStack() as stack:

        async def serve() -> None:
            for index, mount in enumerate(launch.mounts):
                shared = share_of(mount, f"mount{index}", unconfined=launch.unconfined_mounts)
                lose, begin = functools.partial(lost.lose, index), functools.partial(lost.begun.begin, index)
                room = functools.partial(told_of_room, troubles, mount)
                server = serve_directory(shared, paths.sockets.mount(index), lose, changes.of(mount), room, begin)
                if not await stack.enter_async_context(server):
                    why = "on this host (--unconfined-mounts)"
                    events.warn(f"nothing confines the file server of {mount.source} {why}")

        task = asyncio.create_task(serve())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def start_sandbox(
    launch: Launch,
    paths: InstancePaths,
    events: Events,
    begun: Begun | None = None,
    resumption: Resumption | None = None,
    starting: Starting | None = None,
) -> AsyncIterator[RunningSandbox]:
    """Everything of one sandbox for the length of the block: restored, mounted, services healthy, ports open.

    `begun` are the parts of its machine that are on their way already. With `resumption` it goes on where it was
    paused, or where another one was: mounts, private copies and services come with it. With `starting` it boots from
    the disk that it was stopped with.
    """
    async with contextlib.AsyncExitStack() as stack:
        runtime = stack.enter_context(guarded_directory(paths.sockets.directory))
        taken = _taken(launch, stack)
        # Nobody else gets one while the machine starts.
        ports = stack.enter_context(OpenPorts(launch.forwards, taken.listeners if taken else ()))
        base = launch.base()
        journal = stack.enter_context(contextlib.closing(Journal(paths.journal, sandbox=launch.name)))
        log = functools.partial(print, flush=True)  # the supervisor's
        troubles = Troubles(paths, journal, log)
        if launch.proxies or launch.policy().looks_inside:
            forbid_core_dumps()  # credentials of proxies, the key of its authority; a vault does so by itself
        vault = None
        if launch.secrets.sources:
            vault = await open_vault(launch.secrets, Layout.from_environment(launch.roots), events.warn_soon())
        if begun is None:
            begun = await stack.enter_async_context(begin_machine(asdict(launch), paths))
        changes = HostChanges(log)
        lost = LostMounts(launch.mounts, events.warn, log)
        serving = await stack.enter_async_context(_serve_mounts(launch, paths, events, changes, troubles, lost))
        clones = launch.clones if resumption is None and starting is None else ()
        copying = await stack.enter_async_context(copying_clones(clones, paths))
        guest = await stack.enter_async_context(
            begin_guest(
                base,
                name=launch.name,
                disk=paths.disk,
                parent=None
                if starting
                else load_snapshot(resumption.directory if resumption else Path(launch.snapshot)),
                policy=launch.policy(),
                identity=replace(launch.identity, seeds=(), note=None) if starting else launch.identity,
                runtime=runtime,
                journal=journal,
                console_log=paths.console_log,
                secret_of=vault.value if vault else None,
                keep=vault.keep if vault else None,
                proxies=_proxies(launch, ports),
                rate=launch.network_rate,
                begun=begun,
                going_on=resumption.prepare(launch, serving) if resumption else None,
                cold=starting.prepare(launch) if starting else None,
                on_step=events.step,
                log=log,
            )
        )
        services: list[dict[str, Any]] = []
        busy = asyncio.Lock()
        again = functools.partial(try_again, guest.machine, busy)
        watching = keep_room(guest.machine, paths.disk, busy, troubles.begin, troubles.end)
        await stack.enter_async_context(_beside(watching))
        await stack.enter_async_context(_beside(lost.unplug(guest.machine)))
        stack.push_async_callback(changes.close)
        if resumption is not None:
            looking = None
            if not resumption.stays:
                looking = await stack.enter_async_context(_looking(launch, guest, look_at_services))
            await guest.ready
            trying = lost.begun.keep_trying(again, troubles.begin, troubles.end)
            await stack.enter_async_context(_beside(trying))
            changes.channel = guest.channel
            await stack.enter_async_context(ports.serving(guest.channel))
            if looking is not None:
                events.step("checking the health of services")
                services = await looking
            yield RunningSandbox(launch, guest, ports, services, busy, lost, resumption, taken)
            return
        if starting is not None:
            await guest.ready
            mount = functools.partial(_mount, launch, paths, guest, serving, events, lost, again)
            await starting.bring_up(launch, guest.channel, mount, events.step, events.line)
            lost.check_started()
            changes.channel = guest.channel
            if launch.services:
                services = await wait_healthy(guest.channel, launch.project_name, launch.services)
            await stack.enter_async_context(ports.serving(guest.channel))
            yield RunningSandbox(launch, guest, ports, services, busy, lost)
            return
        # A restored guest is asked for everything at once: its two CPUs have enough to do with each of it.
        putting = await stack.enter_async_context(putting_clones(launch, guest, copying, paths))
        looking = await stack.enter_async_context(_looking(launch, guest))
        await _mount(launch, paths, guest, serving, events, lost, again)
        changes.channel = guest.channel
        if launch.clones:
            events.step(f"copying {', '.join(clone.source for clone in launch.clones)}")
            await (putting or put_clones(launch, guest, copying, paths))
            for note in copying.result().notes:
                events.warn(note)
        if launch.late:
            events.step(f"starting {', '.join(launch.late)}")
            assert launch.compose is not None, "services come with their project"
            await write_compose(guest.channel, launch.compose)
            with advice_on_refusals(guest.gateway):
                await start_services(guest.channel, launch.late, events.line)
        if launch.services:
            events.step("checking the health of services")
            services = await (looking or wait_healthy(guest.channel, launch.project_name, launch.services))
        await stack.enter_async_context(ports.serving(guest.channel))
        yield RunningSandbox(launch, guest, ports, services, busy, lost)


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Done in a task for the length of the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _taken(launch: Launch, stack: contextlib.AsyncExitStack) -> TakenPorts | None:
    """Of a sandbox that was paused, the listeners that a waker has; it has them back if the block fails early."""
    if not launch.resume:
        return None
    taken = TakenPorts.take(Layout.from_environment(launch.roots).waker(launch.name))
    stack.callback(taken.close)
    return taken


async def _mount(
    launch: Launch,
    paths: InstancePaths,
    guest: Guest,
    serving: asyncio.Task[None],
    events: Events,
    lost: LostMounts,
    again: Again,
) -> None:
    """Mount what the file servers serve, after the guest has its identity: its files belong beneath the mounts."""
    if not launch.mounts:
        await guest.ready
        return
    await serving
    await plug_all(guest, launch.mounts, paths)  # it finds the devices while it takes its identity
    await guest.ready
    events.step("mounting")
    await lost.unless_lost(mount_all(guest, launch.mounts, functools.partial(lost.begun.until, again)))


@contextlib.asynccontextmanager
async def _looking(
    launch: Launch, guest: Guest, look: Callable[..., Coroutine[Any, Any, list[dict[str, Any]]]] = wait_healthy
) -> AsyncIterator[asyncio.Task[list[dict[str, Any]]] | None]:
    """The first look at services that run since before the snapshot, while the rest is done; None with others."""
    if launch.late or not launch.services:
        yield None
        return
    task = asyncio.create_task(look(guest.channel, launch.project_name, launch.services))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _proxies(launch: Launch, ports: OpenPorts) -> Proxies:
    proxies = Proxies(launch.proxies, lambda: {forward.host_port for forward in ports.forwards})
    for password in proxies.passwords:
        hold(password)
    return proxies


async def supervise(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes, begun: Begun | None = None
) -> int:
    """The whole life of one sandbox, whose Launch is `line`. Returns the exit code of the process."""
    launch = Launch.from_json(line)
    events = Events(writer)
    layout = Layout.from_environment({**os.environ, **launch.roots})
    paths = layout.instance(launch.name)
    redirect_output(paths.supervisor_log)
    with open(paths.supervisor_log, "ab", opener=private) as log:  # what is said without Python, such as by a crash
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    up = asyncio.Event()
    resumption = Resumption(paths) if launch.resume else None
    if launch.forked and not launch.resume and not launch.boot:
        resumption = Resumption(paths, KeptPaths(Path(launch.snapshot)))
    starting = Starting(paths) if launch.boot else None
    tie = Tie(stop)
    if not launch.for_task or resumption is not None or starting is not None:  # it was to stay
        tie.loosen()
    life = asyncio.create_task(_live(launch, layout, paths, events, up, stop, tie, begun, resumption, starting))
    # Until `ready` the other end is `up`: when it goes away, so do we. Afterwards it closes in peace.
    abandoned = asyncio.create_task(reader.read(1))
    stopping = asyncio.create_task(stop.wait())
    ready = asyncio.create_task(up.wait())
    try:
        await asyncio.wait({life, abandoned, stopping, ready}, return_when=asyncio.FIRST_COMPLETED)
        if resumption is not None and resumption.has_begun and not stop.is_set():
            # What was paused is no more: with the machine everything would be lost, so it goes on without a listener.
            await asyncio.wait({life, stopping, ready}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done() and not life.done():
            if abandoned.done():
                tie.tear()
            life.cancel()
        return await life
    except asyncio.CancelledError:
        return 130
    finally:
        for task in (abandoned, stopping, ready):
            task.cancel()
        await events.close()
        if tie.torn and life.done() and (why := forget_torn(layout, launch.name)) is not None:
            print(f"its command was killed, and its files stay: {why}", flush=True)


async def _live(
    launch: Launch,
    layout: Layout,
    paths: InstancePaths,
    events: Events,
    up: asyncio.Event,
    stop: asyncio.Event,
    tie: Tie,
    begun: Begun | None,
    resumption: Resumption | None,
    starting: Starting | None,
) -> int:
    record = load_instance(layout, launch.name)
    assert record is not None, "`up` writes the record before it starts us"
    try:
        async with contextlib.AsyncExitStack() as stack:
            share = stack.enter_context(contextlib.closing(ProcessorShare(layout.group(launch.name))))
            sandbox = await stack.enter_async_context(start_sandbox(launch, paths, events, begun, resumption, starting))
            # All of its processes are there by now: the kernel weighs each session of them by itself.
            weight = launch.cpu_weight
            if weight != DEFAULT and (weaker := await asyncio.to_thread(share.set, weight)) is not None:
                events.warn(weaker)
            # Those that go on are as they were: to ask would take longer than all the rest.
            stays = resumption is not None and resumption.stays
            services = record.services if stays else {row["name"]: row for row in sandbox.services}
            record = update_record(layout, record, state="running", services=services, warnings=list(events.warnings))
            events.on_warning = functools.partial(_keep_warnings, layout, record, events)
            adjuster = Adjuster(layout, launch.name, sandbox.guest, sandbox.ports, sandbox.busy, share.set)
            log = functools.partial(print, flush=True)  # the supervisor's
            await stack.enter_async_context(_beside(sandbox.guest.channel.follow(log, hello_s)))
            keeper = Keeper(layout, record, sandbox.guest.channel)
            temporary = TemporaryRules(layout, launch.name, sandbox.guest, adjuster.arm)
            pauser = Pauser(paths, launch, sandbox.guest, adjuster, temporary, sandbox.lost)
            stopper = Stopper(paths, launch, sandbox.guest, adjuster, temporary)
            if (again := resumption or starting) is not None:
                await again.finish(temporary, events.warn)
                if sandbox.taken is not None:
                    sandbox.taken.done()
            elif (why := await keeper.restore()) is not None:
                events.warn(f"what was kept of the agent could not be brought back: {why}")
            handlers = {"down": _down(stop, keeper), "keep": keeper.handle, "apply": adjuster.handle, "tie": tie.handle}
            handlers["status"] = _status(layout, launch.name)
            handlers |= {"pause": pauser.handle, "stop": stopper.handle}
            handlers["fork"] = Forker(layout, launch, sandbox.guest, adjuster, temporary).handle
            handlers |= live_handlers(layout, launch.name, sandbox.guest, adjuster, temporary)
            async with Relay(sandbox.guest.channel, paths.sockets.control, handlers):
                events.send("ready", services=list(services.values()))
                up.set()
                events.release()
                if starting is not None:
                    starting.done()
                variables = {**adjuster.revise(launch).secrets.environment, **launch.proxies}
                if launch.for_task:
                    await stack.enter_async_context(_beside(tie.expect()))
                ends = Ends(sandbox.guest, sandbox.ports, layout, record, stop, keeper, pauser, stopper, variables)
                try:
                    return await ends.wait(log)
                finally:
                    tie.loosen()  # its clients go now, however it ends
    except (VmmError, EngineError) as error:
        update_record(layout, record, **_failed(resumption, starting, error.brief))
        hint = "; ".join(read_troubles(paths.troubles)) or error.hint  # what is in its way explains it best
        silent = isinstance(error, NeverAnswered)
        events.send("failed", brief=error.brief, details=error.details, hint=hint, silent=silent)
        return 1
    except (OSError, RuntimeError, MemoryError) as error:
        if not isinstance(error, OSError) and not is_scarcity(error):
            raise
        why = str(error) or "there is no memory left for it"
        update_record(layout, record, **_failed(resumption, starting, why))
        events.send("failed", brief=f"the sandbox could not be started: {why}", details=None, hint=None)
        return 1


def _failed(resumption: Resumption | None, starting: Starting | None, why: str) -> dict[str, Any]:
    """What the record says of a start that has failed: what is still paused, or stopped, can be woken once more."""
    if starting is not None:
        return {"state": "stopped", "pid": None, "process": None}
    if resumption is not None and resumption.stays and not resumption.has_begun:
        return {"state": "paused", "pid": None, "process": None}
    return {"state": "failed", "error": why}


def _keep_warnings(layout: Layout, record: Instance, events: Events) -> None:
    update_record(layout, record, warnings=list(events.warnings))


def _down(stop: asyncio.Event, keeper: Keeper) -> Any:
    """With `keep` false, nothing is saved any more."""

    async def handle(request: dict[str, Any], stream: Any) -> dict[str, Any]:
        keeper.end = request.get("keep") is not False
        stop.set()
        return {}

    return handle


def _status(layout: Layout, name: str) -> Any:
    async def handle(request: dict[str, Any], stream: Any) -> dict[str, Any]:
        return {"state": getattr(load_instance(layout, name), "state", "stopped")}

    return handle
