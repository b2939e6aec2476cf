"""The network of a real guest: snapshots under either carrier, many connections, a server's end, and no other road."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from foundation_world import booted_snapshot
from frames import attempts
from guest_clients import HOST, LAST_WORDS, MANY, client_hello, serving

from engine.gateway import upstream
from engine.gateway.journal import Journal
from engine.gateway.lookups import Lookups
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule
from engine.guest.base import Base
from engine.guest.guest import Guest, open_guest
from engine.guest.identity import Identity
from engine.resolve.host_ports import pick_port
from engine.supervisor.ports import OpenPorts
from vmm.carrier import CARRIER_VARIABLE
from vmm.disk import make_overlay
from vmm.process import guarded_directory
from vmm.snapshot import Snapshot, save_snapshot
from vmm.spec import HostForward

LIMIT_S = 240.0
AT_ONCE = 200
FRAMES = Path(__file__).parents[1] / "support" / "frames.py"
# Speaks first, on both addresses; "ready" when it listens.
SPEAKER = """
import asyncio, sys
async def speak(reader, writer):
    writer.write(b"welcome\\n")
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()
async def main():
    await asyncio.start_server(speak, "127.0.0.1", 7001, backlog=1024)
    await asyncio.start_server(speak, "::1", 7002, backlog=1024)
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
SEND = """
import json, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind(("eth0", 0))
wire.settimeout(60)
heard = {}
for name, frame in json.loads(sys.argv[1]).items():
    wire.send(bytes.fromhex(frame))
    wire.send(arp_request("10.0.2.77"))
    while True:
        data, (_, _, kind, *_) = wire.recvfrom(2000)
        if kind == 4: continue  # our own
        said = describe(data)
        if said == "arp" and data[28:32] == socket.inet_aton("10.0.2.77"): break
        if said != "arp" and not said.startswith("tcp rst"): heard.setdefault(name, []).append(said)
print(json.dumps(heard))
"""


class World:
    """A server behind the gateways of guests that are restored from snapshots."""

    def __init__(self, base: Base, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base = base
        self.directory = directory
        self.monkeypatch = monkeypatch
        self.ends: list[bytes] = []

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with serving(self.ends) as (resolve, connect):
            self.monkeypatch.setattr(Lookups, "resolve", staticmethod(resolve))
            self.monkeypatch.setattr(upstream, "connect", connect)
            yield

    @contextlib.asynccontextmanager
    async def guest(self, carrier: str, parent: Snapshot, name: str) -> AsyncIterator[tuple[Guest, Path]]:
        """A guest restored from `parent`, and its directory."""
        directory = self.directory / name
        directory.mkdir()
        await make_overlay(self.base.tools, directory / "disk.qcow2", parent.disk, "qcow2")
        self.monkeypatch.setenv(CARRIER_VARIABLE, carrier)
        with contextlib.ExitStack() as stack:
            runtime = stack.enter_context(guarded_directory(Path(os.environ["SANDBOX_RUNTIME_DIR"]) / name))
            journal = stack.enter_context(contextlib.closing(Journal(directory / "journal.jsonl")))
            async with open_guest(
                self.base,
                name=name,
                disk=directory / "disk.qcow2",
                parent=parent,
                policy=Policy([Rule(HOST)]),
                identity=Identity(name),
                runtime=runtime,
                journal=journal,
            ) as guest:
                assert (guest.gateway.sockets == {}) == (carrier == "passt")  # it is the carrier that was asked for
                yield guest, directory


async def python(guest: Guest, script: str, *arguments: str, stdin: bytes = b"") -> str:
    """What a script prints in the guest, run by root."""
    done = await guest.channel.run(["python3", "-c", script, *arguments], stdin=stdin, timeout_s=LIMIT_S)
    assert done.code == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode().strip()


async def check_many(guest: Guest, count: int) -> None:
    assert await python(guest, MANY, str(count), "1") == str({"hi": count})


async def check_a_servers_end(world: World, guest: Guest) -> None:
    """It arrives at once (through netcat it never did), and what the guest says afterwards still arrives, too."""
    assert await python(guest, LAST_WORDS, stdin=client_hello()) == "b'bye' b''"
    assert world.ends == [b"!"]


async def check_published_ports(guest: Guest) -> None:
    """A server that speaks first, on each loopback address of the guest, from each of the host, many at once."""
    forwards = [HostForward(pick_port(), port) for port in (7001, 7002)]

    async def visit(address: str, port: int, number: int) -> bool:
        reader, writer = await asyncio.open_connection(address, port)
        welcome = await reader.readline()
        writer.write(b"%d\n" % number)
        answer = await reader.read()
        writer.close()
        return (welcome, answer) == (b"welcome\n", b"%d\n" % number)

    async with guest.channel.open_exec(["python3", "-c", SPEAKER]) as speaker:
        assert (await anext(aiter(speaker)))[1] == b"ready\n"
        with OpenPorts(forwards) as ports:
            async with ports.serving(guest.channel):
                for address in ("127.0.0.1", *(["::1"] if socket.has_ipv6 else [])):
                    for forward in forwards:
                        visits = (visit(address, forward.host_port, number) for number in range(AT_ONCE))
                        assert all(await asyncio.gather(*visits)), (address, forward)


async def check_no_other_road(guest: Guest) -> None:
    """Frames of every kind, from a socket of the guest's root: nobody answers, and nobody of the host hears."""
    with socket.create_server(("0.0.0.0", 0)) as host:
        frames = {name: frame.hex() for name, frame in attempts(host.getsockname()[1]).items()}
        assert json.loads(await python(guest, FRAMES.read_text() + SEND, json.dumps(frames))) == {}
        host.setblocking(False)
        with pytest.raises(BlockingIOError):
            host.accept()


def carriers() -> list[int]:
    """The processes of passt that we have started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"--no-map-gw" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def test_a_guest_and_its_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        base, first = await booted_snapshot(tmp_path)
        world = World(base, tmp_path, monkeypatch)
        async with world.serving():
            # Saved with passt (the default), restored with the user network; saved there, restored with passt.
            async with world.guest("user", first, "one") as (guest, directory):
                await check_many(guest, 20)
                assert carriers() == []
                second = await save_snapshot(guest.machine, guest.memory, base.shape, directory)
            async with world.guest("passt", second, "two") as (guest, _):
                await check_many(guest, AT_ONCE)
                await check_a_servers_end(world, guest)
                await check_published_ports(guest)
                await check_no_other_road(guest)
                await check_many(guest, 1)  # the road is open all the same
                [carrier] = carriers()
                os.kill(carrier, signal.SIGKILL)
                await asyncio.wait_for(guest.machine.wait(), LIMIT_S)
                assert "passt, which carries its packets, has ended (-9)" in guest.machine.last_words()
            async with world.guest("passt", first, "three") as (guest, _):
                await check_many(guest, 1)
                os.kill(guest.machine.pid, signal.SIGKILL)
                await asyncio.wait_for(guest.machine.wait(), LIMIT_S)
                assert "passt" not in guest.machine.last_words()
            assert carriers() == []

    asyncio.run(main())
