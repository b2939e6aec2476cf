"""A guest on the network it is allowed: memory, gateway, machine, channel, identity, in one context."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.gateway.context import Keep
from engine.gateway.injection import Secrets
from engine.gateway.journal import Journal
from engine.gateway.policy import Policy
from engine.gateway.proxies import Proxies
from engine.gateway.server import Gateway
from engine.guest.base import Base
from engine.guest.begun import Begun, hold_memory, start_restored
from engine.guest.identity import Identity
from engine.guest.network import open_network
from vmm.channel.errors import GuestSilent
from vmm.channel.guest import GuestChannel
from vmm.channel.rousing import keep_roused
from vmm.errors import VmmError
from vmm.machine import Machine
from vmm.snapshot import Snapshot
from vmm.spec import Drive, MountDevice

if TYPE_CHECKING:
    from engine.gateway.authority import Authority

BOOT_S = {"tcg": 240.0}  # a cold boot under emulation takes 30 s here; a busy CI host has taken four times that
BOOT_ACCELERATED_S = 60.0
HELLO_S = 20.0  # where the guest's processors get what they ask for: see `hello_s`
BUSY = 2.0  # processes that want to run, for each processor; a restored guest takes a second of one
BUSIEST = 6.0
WAKING_S = 300.0
NAMES = "/etc/sandbox/hosts.d/endpoints"  # dnsmasq sees it change by itself


@dataclass(frozen=True)
class GoingOn:
    """What a guest has besides its snapshot when it goes on where a sandbox was: as the one that it was, or, if it does
    not stay that (`stays`), as another one that was the same up to then.

    `mounts` are its devices, whose servers listen when `served` is done. `before_it_runs` is called at the last moment.
    `addresses` are those that names have in it.
    """

    mounts: tuple[MountDevice, ...]
    served: Awaitable[object]
    before_it_runs: Callable[[Gateway], object]
    authority: Authority | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)
    stays: bool = True


@dataclass(frozen=True)
class ColdStart:
    """What a guest has when it is booted from a disk that it has used before, as the one that it was.

    `drives` are plugged in beside that disk. `before_it_runs` is called before the machine is started. `addresses` are
    those that names have in it.
    """

    drives: tuple[Drive, ...]
    before_it_runs: Callable[[Gateway], object]
    authority: Authority | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Guest:
    """A guest that runs, or is about to. `ready` is done when it has answered and has its identity.

    `memory` is the descriptor of its memory, None where that is private to QEMU; `template` is then that of the file
    that QEMU has mapped, None where there is none. Of a restored guest calls may be made
    before it is `ready`: they are answered after its identity was begun, beside it.
    """

    machine: Machine
    channel: GuestChannel
    gateway: Gateway
    memory: int | None
    ready: asyncio.Future[None]
    template: int | None = None


class NeverAnswered(GuestSilent):
    """Nothing in a machine has answered since it runs."""


@contextlib.asynccontextmanager
async def open_guest(base: Base, **options: Any) -> AsyncIterator[Guest]:
    """A guest that answers and has its identity; `options` are those of `begin_guest`.

    Raises VmmError with the console's last lines when nothing answers.
    """
    async with begin_guest(base, **options) as guest:
        await guest.ready
        yield guest


@contextlib.asynccontextmanager
async def begin_guest(
    base: Base,
    *,
    name: str,
    disk: Path,
    parent: Snapshot | None,
    policy: Policy,
    identity: Identity,
    runtime: Path,
    journal: Journal,
    console_log: Path | None = None,
    secret_of: Secrets | None = None,
    keep: Keep | None = None,
    certified: bool = False,
    proxies: Proxies | None = None,
    rate: int | None = None,
    begun: Begun | None = None,
    going_on: GoingOn | None = None,
    cold: ColdStart | None = None,
    on_step: Callable[[str], None] = lambda title: None,
    log: Callable[[str], object] = lambda line: None,
) -> AsyncIterator[Guest]:
    """Boot (`parent` None) or restore a guest, and hand it over when it runs; `ready` says when it is of use.

    `disk` is its writable qcow2; `runtime` a short directory for sockets. What is `begun` already is not begun again;
    else its memory is a copy of the snapshot's. Where the policy looks inside TLS, the guest trusts the certificate of
    an authority that is made for it and dies with it; with `certified` it does so in any case. `secret_of` gives the
    value of a secret at the moment of a request, `keep` takes those that are renewed. `proxies` are those of the host,
    `rate` the bytes per second that it may send and receive, None for as many as it can. `log` is told of what went
    wrong in the machine and was mended.
    With `going_on`, `parent` is what was paused, or forked: a guest that stays who it was gets fresh randomness and the
    time, another one all of its identity. With `cold`, `disk` is one that a guest has used before: it boots as the one
    that it was. Raises VmmError; `ready` does so with the console's last lines when nothing answers. A GuestSilent that
    leaves the block before it is ready is raised as NeverAnswered.
    """
    async with contextlib.AsyncExitStack() as stack:
        before = going_on or cold
        stays = going_on is not None and going_on.stays
        authority = before.authority if before else None
        is_trusted = stays and authority is not None
        if authority is None and (certified or policy.looks_inside):
            authority = make_authority(name)
        if authority is not None and not is_trusted:
            identity = replace(identity, certificate=authority.certificate)
        if begun is None:
            template = None if parent is None else parent.ram
            memory = await stack.enter_async_context(hold_memory(base.shape.memory, template, shared=True))
        else:
            memory = begun.memory
        net = await stack.enter_async_context(
            open_network(
                base.tools,
                policy,
                runtime,
                journal,
                secrets=secret_of,
                keep=keep,
                authority=authority,
                proxies=proxies,
                carrier=begun.carrier if begun is not None else None,
                addresses=before.addresses if before is not None else None,
            )
        )
        net.gateway.pace(rate)
        identity = replace(identity, files=(*identity.files, names_file(net.gateway)))
        if cold is not None:
            cold.before_it_runs(net.gateway)
        on_step("starting the machine" if parent is None else "restoring the machine")
        machine = None
        if begun is not None:
            machine = await begun.started()
            stack.push_async_callback(begun.end_machine)
        if machine is None:
            spec = base.machine(name, disk, memory.descriptor, memory.shared, net.network, parent)
            if going_on is not None:
                spec = replace(spec, mounts=going_on.mounts)
                await going_on.served
            if cold is not None:
                spec = replace(spec, drives=(*spec.drives, *cold.drives))
            starting = start_restored(spec, base.tools, net.carrier, memory, parent, console_log)
            machine = await stack.enter_async_context(starting)
        channel = await stack.enter_async_context(GuestChannel(*await machine.channel_streams()))
        if machine.spec.accelerator == "tcg":  # others have lost no timer
            stack.push_async_callback(_leave, asyncio.ensure_future(keep_roused(channel, log)))
        if parent is not None:
            if going_on is not None:
                going_on.before_it_runs(net.gateway)
            await machine.run()
            # All that is asked of a restored guest is on its way before it answers the first of it.
            channel.greet(at_once=True)
        request = identity.refresh() if stays else identity.request()
        if cold is not None:
            del request["machine_id"]  # it has one
        # What stays exists once: a slow host is no reason to lose it.
        patience = WAKING_S if stays else hello_s()
        ready = asyncio.ensure_future(_take_over(machine, channel, request, patience, booting=parent is None))
        stack.push_async_callback(_leave, ready)
        await asyncio.sleep(0)  # the identity is asked for before anything else
        held = memory.descriptor
        own = {"memory": held} if memory.shared else {"memory": None, "template": held}
        try:
            yield Guest(machine, channel, net.gateway, ready=ready, **own)
        except GuestSilent as error:
            if ready.done() and not ready.cancelled() and ready.exception() is None:
                raise  # what was asked later takes long, or for ever
            raise NeverAnswered(error.brief, error.details, error.hint) from error


def hello_s() -> float:
    """How long a guest that runs may take to answer: HELLO_S, and up to BUSIEST times that on a host on which so many
    want to run that it gets a small share."""
    return HELLO_S * min(max(os.getloadavg()[0] / (os.cpu_count() or 1) / BUSY, 1.0), BUSIEST)


async def _leave(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _take_over(
    machine: Machine, channel: GuestChannel, request: dict[str, Any], patience: float, *, booting: bool
) -> None:
    if booting:
        await _answered(machine, channel, patience, booting=True)
        await channel.call("identity", timeout_s=hello_s(), **request)
        return
    asked = asyncio.ensure_future(channel.call("identity", timeout_s=patience, **request))
    try:
        await _answered(machine, channel, patience, booting=False)
        await asked
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


def names_file(gateway: Gateway) -> tuple[str, int, str]:
    """(path, mode, text) of the file in which the guest's resolver finds the names with an address of their own."""
    return NAMES, 0o644, "".join(f"{address} {name}\n" for name, address in gateway.names.items())


def make_authority(name: str) -> Authority:
    """The certificate authority of one sandbox. Its library is loaded for those only that need one."""
    from engine.gateway.authority import Authority

    return Authority.create(name)


async def _answered(machine: Machine, channel: GuestChannel, patience: float, *, booting: bool) -> None:
    limit = BOOT_S.get(machine.spec.accelerator, BOOT_ACCELERATED_S) if booting else patience
    hello = asyncio.ensure_future(channel.hello(limit) if booting else channel.greeted(limit))
    ended = asyncio.ensure_future(machine.wait())
    try:
        await asyncio.wait({hello, ended}, return_when=asyncio.FIRST_COMPLETED)
        if hello.done() and hello.exception() is None:
            return
        error = hello.exception() if hello.done() else None
        kind, why = VmmError, "the machine ended"
        if not ended.done():
            kind, why = GuestSilent, f"nothing answered in the guest within {limit:.0f} s"
            if isinstance(error, VmmError) and not isinstance(error, GuestSilent):
                kind, why = VmmError, error.brief
        raise kind(f"the guest did not come up: {why}", details=machine.last_words() or None)
    finally:
        for task in (hello, ended):
            task.cancel()
        await asyncio.gather(hello, ended, return_exceptions=True)
