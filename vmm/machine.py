"""A running machine: QEMU's process, its control session, its console and its channel."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from vmm.carrier import Carrier
from vmm.console import Console
from vmm.errors import VmmError
from vmm.jail import has_filter, machine_jail
from vmm.last_words import LastWords
from vmm.private import UMASK
from vmm.process import spawn
from vmm.qemu_args import MOUNT_QUEUE, USER_NETWORK, qemu_arguments
from vmm.qmp import Qmp, connect_qmp
from vmm.spec import Drive, MachineSpec
from vmm.tools import Tools
from vmm.unix_socket import connect_now

GREETING_S = 30.0  # QEMU greets within 0.2 s; a loaded host may take long to map its libraries
RESTORE_S = 60.0
SAVE_S = 300.0
LAST_WORDS_S = 1.0
MEMORY_APART = "x-ignore-shared"  # the capability of a state that the memory is not in
ENDING_S = 30.0


class Machine:
    """Made by `start_machine`. `channel` is the host's end of the virtio-serial port (a connected socket)."""

    def __init__(
        self, spec: MachineSpec, process: asyncio.subprocess.Process, qmp: Qmp, console: Console, channel: socket.socket
    ) -> None:
        self.spec = spec
        self.process = process
        self.qmp = qmp
        self.console = console
        self.channel = channel
        self.plugged = [drive for drive in spec.drives if drive.slot is not None]
        self._disk = "disk"  # the node that the guest's disk writes into
        self._failure = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    def last_words(self) -> str:
        """Why it was ended, if something of ours failed, else the end of what its console said."""
        return self._failure or self.console.last_words()

    def fail(self, why: str) -> None:
        """End it at once, because something that it cannot do without has ended."""
        self._failure = self._failure or why
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def wait(self) -> int:
        """Wait until QEMU has ended; returns its exit code."""
        return await self.process.wait()

    async def channel_streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The channel as a stream pair; call once."""
        return await asyncio.open_connection(sock=self.channel)

    async def load(self, state: Path) -> None:
        """Load the device state of a snapshot into a machine started with `incoming`; `run` lets it go on.

        Its memory must be there: devices look into it. Raises VmmError with QEMU's reason (another QEMU version or
        machine shape) or after RESTORE_S seconds.
        """
        await self._set_capabilities()
        # No switch has to learn where the machine is now, and the guest would run for each announcement.
        await self.qmp.execute("migrate-set-parameters", announce_rounds=0)
        await self.qmp.migrate("migrate-incoming", state, timeout_s=RESTORE_S)

    async def run(self) -> None:
        """Let a loaded machine go on, or one that stands still, also after a `save` that failed. Raises VmmError."""
        await self.qmp.execute("cont")

    async def save(self, state: Path) -> None:
        """Stop the machine and write its device state; the memory file then holds the memory. Takes up to SAVE_S."""
        await self.stand_still()
        if self.spec.network is not None and self.spec.network.stream is None:
            # It would save a state of its own, which a machine without a user network would refuse to load.
            await self.qmp.execute("netdev_del", id=USER_NETWORK)
        await self._set_capabilities()
        await self.qmp.migrate("migrate", state, timeout_s=SAVE_S)

    async def stand_still(self) -> None:
        """Stop the guest's processors, and flush its disk. Raises VmmError."""
        await self.qmp.execute("stop", timeout_s=60)

    async def _set_capabilities(self) -> None:
        wanted = [{"capability": name, "state": True} for name in ("events", MEMORY_APART)]
        await self.qmp.execute("migrate-set-capabilities", capabilities=wanted)

    async def save_devices(self, state: Path) -> None:
        """Write the state of the devices of a machine that stands still, and none of its memory. Raises VmmError.

        Other than after `save`, the machine may run on as if nothing had been. What is written has no configuration:
        `vmm.apart.configured` makes a state of it that can be loaded.
        """
        name = await self.qmp.lend(state, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            # Its name is history: nothing in it is Xen's. `live=False`: the disks stay this machine's.
            await self.qmp.execute("xen-save-devices-state", filename=name, live=False, timeout_s=SAVE_S)
        finally:
            await self.qmp.take_back(name)

    async def type(self) -> str:
        """QEMU's full name for this kind of machine, such as `pc-q35-10.0`. Raises VmmError."""
        answer = await self.qmp.execute("qom-get", path="/machine", property="type")
        return str(answer).removesuffix("-machine")

    async def memory_address(self) -> int:
        """Where QEMU has the guest's memory in its own. Raises VmmError."""
        answer = await self.qmp.monitor("gpa2hva 0")
        try:
            return int(answer.split()[-1], 16)
        except (ValueError, IndexError):
            raise VmmError("QEMU did not say where the machine's memory is", details=answer) from None

    async def change_disk(self, overlay: Path) -> None:
        """Let the disk of a machine that stands still write into `overlay` from now on, a qcow2 above the one before,
        which QEMU only reads from then on. Takes up to SAVE_S, and as long again where QEMU does not answer.

        Raises VmmError; the machine has the disk from before then, or has ended, where nobody can know which one.
        """
        # Both, and for good: QEMU opens it by this name again, for reading, when there is yet another one above it.
        name = await self.qmp.lend(overlay, os.O_RDWR)
        await self.qmp.lend(overlay, os.O_RDONLY, name)
        node = f"disk-{name.rpartition('/')[2]}"
        file = {"driver": "file", "filename": name, "locking": "off"}
        options: dict[str, Any] = {"node-name": node, "discard": "unmap", "backing": None}
        await self.qmp.execute("blockdev-add", driver="qcow2", file=file, **options)
        try:
            await self.qmp.execute("blockdev-snapshot", node=self._disk, overlay=node, timeout_s=SAVE_S)
        except VmmError:  # QEMU does what it was told, also where the answer comes too late
            if not await self._writes_into(node):
                raise
        self._disk = node

    async def _writes_into(self, node: str) -> bool:
        """Whether one of its disks is `node`. One that does not say is ended, and is no more when this raises VmmError:
        whoever is wrong about the disk loses what the guest writes."""
        try:
            blocks = await self.qmp.execute("query-block", timeout_s=SAVE_S)
        except VmmError as error:
            self.fail(f"nobody knows which disk the machine writes into: {error.brief}")
            await self.wait()
            raise
        return any(block.get("inserted", {}).get("node-name") == node for block in blocks)

    async def shrink_memory(self, floor: int, *, timeout_s: float = 60.0) -> None:
        """Take the guest's free pages away and give the room back: pages freed long ago keep their old bytes otherwise.

        `floor` is what the guest keeps meanwhile, in bytes. Best effort: a guest that hands out slowly is not an error.
        """
        full = self.spec.memory.size
        for target in (max(floor, 256 * 1024 * 1024), full):
            await self.qmp.execute("balloon", value=min(target, full))
            await self._settle_balloon(min(target, full), timeout_s)

    async def _settle_balloon(self, target: int, timeout_s: float) -> None:
        last, deadline = -1, asyncio.get_running_loop().time() + timeout_s
        while asyncio.get_running_loop().time() < deadline:
            actual = (await self.qmp.execute("query-balloon"))["actual"]
            if abs(actual - target) < 4 * 1024 * 1024 or (actual == last and target < actual):
                return
            last = actual
            await asyncio.sleep(0.25)

    async def plug_mount(self, tag: str, slot: int, server: Path) -> None:
        """Hot-plug a virtiofs device with `tag` into spare port `slot`; its file server listens on `server`."""
        with connect_now(server) as connection:
            await self.qmp.lend_socket(connection, f"fs{slot}")
        address = {"type": "fd", "data": {"str": f"fs{slot}"}}
        backend = {"type": "socket", "data": {"addr": address, "server": False}}
        await self.qmp.execute("chardev-add", id=f"fs{slot}", backend=backend)
        await self.qmp.execute(
            "device_add",
            driver="vhost-user-fs-pci",
            id=f"fsdev{slot}",
            chardev=f"fs{slot}",
            tag=tag,
            bus=f"slot{slot}",
            queue_size=MOUNT_QUEUE,
        )

    async def unplug_mount(self, slot: int) -> None:
        """Ask the guest to let go of the virtiofs device in spare port `slot`, which it does within some seconds.

        Raises VmmError.
        """
        await self.qmp.execute("device_del", id=f"fsdev{slot}")

    async def plug_drive(self, drive: Drive) -> None:
        """Hot-plug a disk into its spare port. A machine that is restored from a snapshot of this one has it, too.

        The guest's kernel sees it some time later. Raises VmmError.
        """
        name = await self.qmp.lend(drive.path, os.O_RDONLY if drive.read_only else os.O_RDWR)
        file = {"driver": "file", "filename": name, "locking": "off"}
        block: dict[str, Any] = {"node-name": drive.serial, "read-only": drive.read_only}
        await self.qmp.execute("blockdev-add", driver=drive.format, file=file, **block)
        await self.qmp.execute(
            "device_add",
            driver="virtio-blk-pci",
            id=drive.device,
            drive=drive.serial,
            serial=drive.serial,
            bus=f"slot{drive.slot}",
        )
        self.plugged.append(drive)

    async def quit(self) -> None:
        """Ask QEMU to flush its disks and end; waits up to 30 s."""
        with contextlib.suppress(VmmError):
            await self.qmp.execute("quit")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), 30)


@contextlib.asynccontextmanager
async def start_machine(
    spec: MachineSpec,
    tools: Tools,
    carrier: Carrier | None = None,
    *,
    console_log: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> AsyncIterator[Machine]:
    """Start QEMU for the length of the block; ready when QEMU answers (the guest may not yet).

    `carrier` made the spec's network; when it ends, the machine does. `pass_fds` are inherited by QEMU (its memory).
    Raises VmmError with QEMU's own last words.
    """
    carrier = carrier or Carrier("user")
    async with contextlib.AsyncExitStack() as stack:
        ours: dict[str, socket.socket] = {}
        theirs: dict[str, socket.socket] = {}
        for name in ("qmp", "console", "channel"):
            ours[name], theirs[name] = socket.socketpair()
            stack.enter_context(ours[name])
            stack.enter_context(theirs[name])
        for mount in spec.mounts:  # QEMU can make no connection by itself
            theirs[mount.channel] = stack.enter_context(connect_now(mount.server))
        arguments = qemu_arguments(
            spec,
            fds={name: end.fileno() for name, end in theirs.items()},
            connect=tools.connect.command("-N", "-U"),
            data=tools.qemu_data,
            filtered=has_filter(tools.qemu),
        )
        errors = stack.enter_context(LastWords())  # of the helpers that QEMU starts for connections, too
        console = Console(ours["console"], console_log)
        reader = asyncio.create_task(console.read(), name=f"console {spec.name}")
        stack.push_async_callback(_finish, reader, theirs["console"])
        process = await stack.enter_async_context(
            spawn(
                [*tools.qemu.argv, *arguments],
                env=tools.qemu.env,
                stderr=errors,
                umask=UMASK,
                jail=machine_jail(spec, tools, own_network=carrier.kind == "passt"),
                pass_fds=[*(end.fileno() for end in theirs.values()), *carrier.descriptors, *pass_fds],
            )
        )
        for end in theirs.values():
            end.close()  # so that QEMU's exit closes the last copy and we see the end of the stream
        carrier.hand_over()
        try:
            qmp = await stack.enter_async_context(connect_qmp(ours["qmp"], timeout_s=GREETING_S))
        except VmmError as error:
            raise VmmError("QEMU did not start", details=errors.text(4000) or error.details) from error
        machine = Machine(spec, process, qmp, console, ours["channel"])
        watching = asyncio.create_task(_watch(carrier, machine), name=f"carrier {spec.name}")
        stack.callback(watching.cancel)
        yield machine


async def _watch(carrier: Carrier, machine: Machine) -> None:
    """A machine without its network is of no use, and what is wrong with it would be hard to tell."""
    if carrier.ended is None:
        return
    words = await asyncio.shield(carrier.ended)
    if not words:
        # QEMU closes its end some time before it has ended, and how it ends is its own to say.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(machine.wait(), ENDING_S)
            return
        words = "passt, which carries its packets, has ended"
    machine.fail(words)


async def _finish(reader: asyncio.Task[None], console: socket.socket) -> None:
    # QEMU has ended by now (the stack unwinds in reverse): what it still printed is read, then comes the end.
    console.close()
    try:
        await asyncio.wait({reader}, timeout=LAST_WORDS_S)
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
