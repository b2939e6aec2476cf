"""What carries the guest's packets to the gateway: passt in an empty network, or QEMU's own user network.

With passt, what the guest sends comes out as a connection in a network namespace that has nothing but the gateway's
listeners: the kernel knows no other road. The user network does where the host has no passt or forbids namespaces. The
guest sees the same addresses with both, and a snapshot that was saved with one is restored with the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vmm.empty_network import READY
from vmm.environment import CARRIER_VARIABLE
from vmm.errors import VmmError
from vmm.last_words import LastWords
from vmm.process import IN_A_LINE, spawn
from vmm.spec import GUEST_ADDRESS, GUEST_MAC, ROUTER_ADDRESS, GuestForward, Network
from vmm.tools import Tool, Tools

Door = tuple[str, int]  # an address and a port that the guest can connect to

LAST_WORDS_S = 1.0
START_S = 15.0  # it takes 30 to 100 ms; a busy machine has taken ten times that
DOORS_MAX = 250  # the kernel hands over 253 descriptors in one message
# -S: no packages of anybody else. The package itself is found by the path that we were found by.
START = IN_A_LINE + "sys.path.insert(0, sys.argv.pop(1)); from vmm.empty_network import main; main()"
# TCP and ARP are all that it answers; it makes no connections to the guest, and maps no address to another.
SILENT = ("-4", "--no-udp", "--no-icmp", "--no-dhcp", "--no-dhcpv6", "--no-ndp", "--no-ra", "-t", "none", "-u", "none")
UNMAPPED = ("--no-map-gw", "--map-host-loopback", "none", "--map-guest-addr", "none")
NOBODY = 65534


class NoPasst(VmmError):
    """passt cannot be used here: `brief` says why."""


@dataclass(frozen=True)
class Carrier:
    """`kind` says which one it is and `reason` why it is not passt. `listeners` are passt's, by door.

    `stream` is the end of passt's connection that QEMU inherits. `ended` gets passt's last words when it ends; "" when
    it ended because QEMU did.
    """

    kind: Literal["passt", "user"]
    reason: str = ""
    listeners: Mapping[Door, socket.socket] = field(default_factory=dict)
    stream: socket.socket | None = None
    ended: asyncio.Future[str] | None = None

    def network(self, sockets: Mapping[Door, Path]) -> Network:
        """The machine's network. The user network brings connections to the gateway's unix `sockets`."""
        if self.stream is not None:
            return Network(stream=self.stream.fileno())
        return Network(tuple(GuestForward(port, path, address) for (address, port), path in sorted(sockets.items())))

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What QEMU inherits."""
        return () if self.stream is None else (self.stream.fileno(),)

    def hand_over(self) -> None:
        """QEMU has its end: with our copy gone, passt ends when QEMU does, however that is."""
        if self.stream is not None:
            self.stream.close()


@contextlib.asynccontextmanager
async def open_carrier(tools: Tools, doors: Sequence[Door]) -> AsyncIterator[Carrier]:
    """passt with a listener at each of `doors`, for the length of the block; the user network where it does not run.

    The user of SANDBOX_CARRIER=user has chosen. Waits up to START_S seconds for passt to answer.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            carrier = await stack.enter_async_context(start_passt(wanted_passt(tools), doors))
        except NoPasst as error:
            carrier = Carrier("user", error.brief)
        yield carrier


def wanted_passt(tools: Tools) -> Tool:
    """The program to use. Raises NoPasst."""
    chosen = os.environ.get(CARRIER_VARIABLE, "")
    if chosen == "user":
        raise NoPasst(f"{CARRIER_VARIABLE}=user")
    if chosen not in ("", "passt"):
        raise VmmError(f"{CARRIER_VARIABLE} is {chosen!r}", hint='it may be "user" or "passt"')
    if sys.platform != "linux":
        raise NoPasst("passt runs on Linux only")
    if tools.passt is None:
        raise NoPasst("passt is not installed")
    return tools.passt


@contextlib.asynccontextmanager
async def start_passt(passt: Tool, doors: Sequence[Door]) -> AsyncIterator[Carrier]:
    """passt in an empty network for the length of the block, when it has answered. Raises NoPasst with the reason.

    Nothing of it has a name: the connection to QEMU and the listeners are descriptors.
    """
    if len(doors) > DOORS_MAX:
        raise NoPasst(f"more than {DOORS_MAX} ports")
    async with contextlib.AsyncExitStack() as stack:
        ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
        answers, report = (stack.enter_context(end) for end in socket.socketpair())
        words = stack.enter_context(LastWords())
        told = {
            "doors": list(doors),
            "report": report.fileno(),
            "keep": [theirs.fileno()],
            "command": passt.command(*_arguments(theirs.fileno())),
        }
        package = str(Path(__file__).parent.parent)
        process = await stack.enter_async_context(
            spawn(
                [sys.executable, "-I", "-S", "-c", START, package, json.dumps(told)],
                env=passt.env,
                stderr=words,
                pass_fds=[theirs.fileno(), report.fileno()],
                grace_s=1.0,
            )
        )
        theirs.close()
        report.close()
        try:
            async with asyncio.timeout(START_S):
                answer, listeners = await _answer(answers, len(doors))
                for listener in listeners:
                    stack.enter_context(listener)
                if answer != READY or len(listeners) != len(doors):
                    why = answer.decode(errors="replace") or words.text(500)
                    raise NoPasst(f"this host gives us no network namespace: {why}")
                await _answered(ours)
        except TimeoutError:
            raise NoPasst(f"passt did not answer within {START_S:.0f} s") from None
        except (OSError, EOFError) as error:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), LAST_WORDS_S)
            why = (words.text(2000).splitlines() or ["it said nothing"])[-1]
            raise NoPasst(f"passt ended with code {process.returncode}: {why}") from error
        ended = asyncio.ensure_future(_last_words(process, words))
        stack.callback(ended.cancel)
        yield Carrier("passt", "", dict(zip(doors, listeners, strict=True)), ours, ended)


async def try_passt(tools: Tools) -> str:
    """Why passt does not carry packets on this host, "" where it does. Tries it, which takes about 100 ms."""
    async with open_carrier(tools, [(ROUTER_ADDRESS, 1)]) as carrier:
        return carrier.reason


def _arguments(stream: int) -> list[str]:
    arguments = ["--foreground", "--fd", str(stream), "-a", GUEST_ADDRESS, "-n", "24", "-g", ROUTER_ADDRESS]
    # Root's passt becomes nobody, after it was loaded from a place that only root may read.
    user = ["--runas", f"{NOBODY}:{NOBODY}"] if os.geteuid() == 0 else []
    return [*arguments, *SILENT, *UNMAPPED, *user]


async def _answer(answers: socket.socket, count: int) -> tuple[bytes, list[socket.socket]]:
    answers.setblocking(False)
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(answers, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(answers)
    text, descriptors, _, _ = socket.recv_fds(answers, 4096, count)
    listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for listener in listeners:
        listener.setblocking(False)
    return text, listeners


async def _answered(stream: socket.socket) -> None:
    """Ask it who the router is, as the guest's kernel does: when it answers, it has shut itself in and serves.

    Raises OSError, EOFError when it ends instead.
    """
    stream.setblocking(False)
    loop = asyncio.get_running_loop()
    mac, router = bytes.fromhex(GUEST_MAC.replace(":", "")), socket.inet_aton(ROUTER_ADDRESS)
    # An ARP request (RFC 826) in an Ethernet frame; a frame is preceded by its length.
    request = struct.pack("!6s6sHHHBBH", b"\xff" * 6, mac, 0x0806, 1, 0x0800, 6, 4, 1)
    request += struct.pack("!6s4s6s4s", mac, socket.inet_aton(GUEST_ADDRESS), bytes(6), router)
    await loop.sock_sendall(stream, struct.pack("!I", len(request)) + request)
    while True:
        (length,) = struct.unpack("!I", await _exactly(stream, 4))
        frame = await _exactly(stream, length)
        if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\x02" and frame[28:32] == router:
            return


async def _exactly(stream: socket.socket, count: int) -> bytes:
    """Not a byte more: the rest is QEMU's."""
    data = b""
    while len(data) < count:
        if not (more := await asyncio.get_running_loop().sock_recv(stream, count - len(data))):
            raise EOFError("it ended at once")
        data += more
    return data


async def _last_words(process: asyncio.subprocess.Process, words: LastWords) -> str:
    code = await process.wait()
    # With 0 it ends when its connection does.
    return f"passt, which carries its packets, has ended ({code}): {words.text(1000)}" if code else ""
