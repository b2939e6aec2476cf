"""The real passt, spoken to as a guest that owns its kernel can: whole Ethernet frames. No guest boots here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import select
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from foundation_world import shared_tools
from frames import arp_request, attempts, describe, tcp_syn
from open_memory import open_memory

from vmm.carrier import CARRIER_VARIABLE, Carrier, open_carrier, start_passt
from vmm.empty_network import MEMORY_MOST
from vmm.machine import Machine, start_machine
from vmm.spec import MachineSpec, Memory, kernel_arguments
from vmm.tools import to_json

DOOR = ("10.0.2.100", 80)
SIZE = 128 * 1024 * 1024
LIMIT_S = 120.0
ROOT = Path(__file__).parents[2]


def run(main: Any) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(LIMIT_S):
            return await main

    return asyncio.run(limited())


class Guest:
    """The machine's end of the wire."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._data = b""

    async def send(self, *frames: bytes) -> None:
        data = b"".join(struct.pack("!I", len(frame)) + frame for frame in frames)
        await asyncio.get_running_loop().sock_sendall(self._stream, data)

    async def receive(self) -> bytes:
        while len(self._data) < 4 or len(self._data) < 4 + struct.unpack("!I", self._data[:4])[0]:
            more = await asyncio.get_running_loop().sock_recv(self._stream, 1 << 16)
            if not more:
                raise EOFError("passt has ended")
            self._data += more
        (length,) = struct.unpack("!I", self._data[:4])
        frame, self._data = self._data[4 : 4 + length], self._data[4 + length :]
        return frame

    async def first_answer(self, frame: bytes) -> str:
        await self.send(frame)
        return describe(await self.receive())

    async def answers(self, *frames: bytes) -> list[str]:
        """What comes back for these frames: all that does before the answer to a question that is asked after them."""
        await self.send(*frames, arp_request("10.0.2.77"))
        heard = []
        while True:
            frame = await self.receive()
            if describe(frame) == "arp" and frame[28:32] == socket.inet_aton("10.0.2.77"):
                return heard
            heard.append(describe(frame))


@contextlib.asynccontextmanager
async def carried(doors: Sequence[tuple[str, int]] = (DOOR,)) -> AsyncIterator[tuple[Guest, Carrier]]:
    tools = await shared_tools()
    assert tools.passt is not None
    async with start_passt(tools.passt, list(doors)) as carrier:
        assert carrier.stream is not None
        yield Guest(carrier.stream), carrier


def dialled(listener: socket.socket) -> list[str]:
    """Who has connected to it."""
    listener.setblocking(False)
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, address = listener.accept()
            found.append(address[0])
            connection.close()
    return found


def test_the_gateway_answers_and_nobody_else() -> None:
    async def main(host: socket.socket) -> None:
        port = host.getsockname()[1]
        async with carried() as (guest, carrier):
            assert await guest.first_answer(tcp_syn(*DOOR)) == "tcp syn 10.0.2.100:80"
            for name, frame in attempts(port).items():
                said = [answer for answer in await guest.answers(frame) if not answer.startswith("tcp rst ")]
                assert said == [], (name, said)
            # Whoever a guest says it is, it reaches the gateway alone.
            spoofed = tcp_syn(*DOOR, source="10.9.8.7", source_port=40002)
            assert await guest.first_answer(spoofed) == "tcp syn 10.0.2.100:80"
            assert len(dialled(carrier.listeners[DOOR])) == 2
        assert dialled(host) == []

    with socket.create_server(("0.0.0.0", 0)) as host:
        run(main(host))


def test_frames_of_garbage_lead_nowhere() -> None:
    """A few thousand frames that are broken in some place. Where passt fails over one it ends, and says so.

    It does over TCP by IPv6 to an IPv4-mapped address (2025-05): a guest's root can end its own machine with that.
    """
    chance = random.Random(1)
    good = [frame for _, frame in sorted(attempts(9).items())]
    good += [tcp_syn(*DOOR), tcp_syn("::ffff:127.0.0.1", 9, "fe80::1234")]

    async def main(host: socket.socket) -> None:
        left = 3000
        while left:
            async with carried() as (guest, carrier):
                assert carrier.ended is not None
                try:
                    while left:
                        left -= 1
                        heard = await guest.answers(_broken(chance, chance.choice(good)))
                        assert [answer for answer in heard if not answer.startswith(("tcp ", "arp"))] == []
                        dialled(carrier.listeners[DOOR])
                except (OSError, EOFError):
                    assert "has ended" in await carrier.ended
        assert dialled(host) == []

    with socket.create_server(("0.0.0.0", 0)) as host:
        run(main(host))


def _broken(chance: random.Random, whole: bytes) -> bytes:
    frame = bytearray(whole)
    for _ in range(chance.randrange(0, 6)):
        frame[chance.randrange(len(frame))] = chance.randrange(256)
    return bytes(frame[: chance.choice([len(frame), chance.randrange(14, len(frame) + 1)])])


def test_passt_has_given_up_its_rights() -> None:
    """Before it hears a frame: no capability, a filter of system calls, an empty root, a network of its own."""

    async def main() -> None:
        async with carried() as (guest, _):
            assert await guest.answers() == []
            [process] = [entry for entry in Path("/proc").glob("[0-9]*") if is_child(entry, b"--no-map-gw")]
            status = dict(
                line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line
            )
            uid = os.geteuid() or 65534
            assert set(status["Uid"].split()) == {str(uid)}
            assert status["CapEff"] == status["CapPrm"] == "0" * 16
            assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
            if os.geteuid() == 0:
                limits = (process / "limits").read_text().splitlines()
                memory = next(line.split()[3:5] for line in limits if line.startswith("Max data"))
                assert memory == [str(MEMORY_MOST)] * 2
            if os.geteuid() == 0:  # of a process of nobody's only root can see more
                spaces = {name: (process / "ns" / name).readlink() for name in ("net", "mnt", "ipc", "user")}
                assert not [name for name, space in spaces.items() if space == Path(f"/proc/self/ns/{name}").readlink()]
                assert list((process / "root").iterdir()) == []

    run(main())


def is_child(entry: Path, word: bytes) -> bool:
    try:
        ours = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid()
        return ours and word in (entry / "cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize("how", ["hand_over", "block"])
def test_passt_ends_with_whoever_holds_the_other_end(how: str) -> None:
    async def main() -> None:
        async with carried() as (_, carrier):
            assert carrier.ended is not None
            if how == "hand_over":
                carrier.hand_over()
                assert await carrier.ended == ""
        assert not [entry for entry in Path("/proc").glob("[0-9]*") if is_child(entry, b"--no-map-gw")]

    run(main())


@pytest.mark.parametrize("saved", ["passt", "user"])
def test_a_machine_restores_with_either_what_it_saved_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: str
) -> None:
    """The state of the devices alone: the machine is stopped before it has loaded its kernel."""
    (tmp_path / "initrd").write_bytes(b"no file system")
    state = tmp_path / "devices"

    async def main(memory: int) -> None:
        tools = await shared_tools()

        @contextlib.asynccontextmanager
        async def machine(kind: str, incoming: bool) -> AsyncIterator[Machine]:
            monkeypatch.setenv(CARRIER_VARIABLE, kind)
            async with open_carrier(tools, [DOOR]) as carrier:
                assert carrier.kind == kind, carrier.reason
                spec = MachineSpec(
                    name=tmp_path.name,
                    accelerator="tcg",
                    cpus=1,
                    memory=Memory(SIZE, Path(f"/proc/self/fd/{memory}"), shared=True),
                    kernel=tools.kernel,
                    initrd=tmp_path / "initrd",
                    append=kernel_arguments(),
                    drives=(),
                    network=carrier.network({DOOR: tmp_path / "gateway.sock"}),
                    incoming=incoming,
                )
                async with start_machine(spec, tools, carrier, pass_fds=[memory]) as started:
                    yield started

        async with machine(saved, False) as first:
            await first.save(state)
        for kind in ("passt", "user"):
            async with machine(kind, True) as second:
                await second.load(state)
                await second.run()

    with open_memory(SIZE) as memory:
        run(main(memory))


OWNER = """
import asyncio, sys
from pathlib import Path
from vmm.carrier import open_carrier
from vmm.machine import start_machine
from vmm.spec import MachineSpec, Memory
from vmm.tools import from_json

async def main(description, directory):
    tools = from_json(description.read_text(), directory)
    async with open_carrier(tools, [("10.0.2.100", 80)]) as carrier:
        memory, network = Memory(128 * 2**20), carrier.network({})
        spec = MachineSpec("killed", "tcg", 1, memory, tools.kernel, description, "", (), network, incoming=True)
        async with start_machine(spec, tools, carrier) as machine:
            print(carrier.kind, flush=True)
            await machine.wait()

asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def children(parent: int) -> dict[int, str]:
    """The living children of a process, with the user that each runs as."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found[int(entry.name)] = (entry / "status").read_text().partition("Uid:")[2].split()[0]
    return found


def test_passt_and_qemu_end_with_the_supervisor(tmp_path: Path) -> None:
    """Killed with -9. Root's passt has become nobody, and no longer dies with its parent by itself: QEMU does."""
    tools = asyncio.run(shared_tools())
    (tmp_path / "tools.json").write_text(to_json(tools, tmp_path))
    argv = [sys.executable, "-c", OWNER, str(tmp_path / "tools.json"), str(tmp_path)]
    with contextlib.ExitStack() as stack:
        owner = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT))
        stack.callback(owner.kill)
        assert owner.stdout and owner.stdout.readline() == b"passt\n"
        started = children(owner.pid)
        assert sorted(started.values()) == sorted(
            ["65534" if os.geteuid() == 0 else str(os.getuid()), str(os.getuid())]
        )
        holds = [os.pidfd_open(pid) for pid in started]
        for hold in holds:
            stack.callback(os.close, hold)
        owner.kill()
        for hold in holds:
            assert select.select([hold], [], [], LIMIT_S)[0], "it is left"
