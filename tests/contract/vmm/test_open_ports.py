"""A machine's ports on the host, changed while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from engine.resolve.host_ports import pick_port
from engine.supervisor import ports as loopback
from engine.supervisor.ports import OpenPorts
from vmm.errors import VmmError
from vmm.spec import HostForward

Runner = Callable[..., Any]


class Machine:
    """Opens and closes as QEMU does, without a guest behind: what connects is told the guest's port."""

    def __init__(self, *forwards: HostForward) -> None:
        self.initial = forwards
        self.servers: dict[tuple[str, int], asyncio.Server] = {}
        self.said: list[str] = []

    async def __aenter__(self) -> Machine:
        for forward in self.initial:
            await self.add_forward(forward)
        self.said.clear()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for server in self.servers.values():
            server.close()

    async def add_forward(self, forward: HostForward) -> None:
        self.said.append(f"+{forward.guest_port}")

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(str(forward.guest_port).encode())
            writer.close()

        place = (forward.host_address, forward.host_port)
        try:
            self.servers[place] = await asyncio.start_server(answer, *place)
        except OSError as error:
            raise VmmError("taken") from error

    async def remove_forward(self, forward: HostForward) -> None:
        self.said.append(f"-{forward.guest_port}")
        server = self.servers.pop((forward.host_address, forward.host_port))
        server.close()
        await server.wait_closed()


async def ask(address: str, port: int) -> str:
    try:
        reader, writer = await asyncio.open_connection(address, port)
    except OSError:
        return "refused"
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()
        await writer.wait_closed()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "address", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no ::1"))]
)
def test_ports_come_and_go(run_clean: Runner, address: str) -> None:
    async def main() -> None:
        kept, gone, new = HostForward(pick_port(), 1), HostForward(pick_port(), 2), HostForward(pick_port(), 3)
        async with Machine(kept, gone) as machine, OpenPorts(machine, (kept, gone)) as ports:
            assert await ask(address, gone.host_port) == "2"
            await ports.change((new, kept))
            assert machine.said == ["-2", "+3"], "what stays is left alone"
            assert await ask(address, kept.host_port) == "1" and await ask(address, new.host_port) == "3"
            assert await ask(address, gone.host_port) == "refused"
            assert set(ports.forwards) == {kept, new}
            await ports.change((new, kept))
            assert machine.said == ["-2", "+3"]
            # The same port of the host, to another one of the guest.
            await ports.change((HostForward(kept.host_port, 4), new))
            assert await ask(address, kept.host_port) == "4"

    run_clean(main())


def test_after_a_failure_it_is_known_what_is_open(run_clean: Runner) -> None:
    async def main() -> None:
        first = HostForward(pick_port(), 1)
        with socket.socket() as somebody:
            somebody.bind(("127.0.0.1", 0))
            somebody.listen()
            taken = HostForward(somebody.getsockname()[1], 2)
            async with Machine() as machine, OpenPorts(machine, ()) as ports:
                with pytest.raises(VmmError):
                    await ports.change((first, taken, HostForward(pick_port(), 3)))
                assert ports.forwards == (first,)
                assert await ask("127.0.0.1", first.host_port) == "1"
                await ports.change(())
                assert ports.forwards == ()

    run_clean(main())


class Relays:
    """In the place of relay_ipv6: knows which are open. `stuck` never opens, `broken` fails to close."""

    def __init__(self, stuck: int = 0, broken: int = 0) -> None:
        self.open: list[int] = []
        self.stuck, self.broken = stuck, broken
        self.waits = asyncio.Event()

    @contextlib.asynccontextmanager
    async def __call__(self, port: int) -> AsyncIterator[None]:
        if port == self.stuck:
            self.waits.set()
            await asyncio.Event().wait()
        self.open.append(port)
        try:
            yield
            if port == self.broken:
                raise OSError("broken")
        finally:
            self.open.remove(port)


FORWARDS = tuple(HostForward(port, port) for port in (1, 2, 3))


def test_cancelled_half_way_it_closes_what_is_open(run_clean: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        relays = Relays(stuck=3)
        monkeypatch.setattr(loopback, "relay_ipv6", relays)
        entering = asyncio.create_task(OpenPorts(Machine(), FORWARDS).__aenter__())
        await relays.waits.wait()
        assert relays.open == [1, 2]
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert relays.open == []

    run_clean(main())


@pytest.mark.parametrize("broken", [1, 2, 3])
def test_one_that_does_not_close_keeps_no_other_open(
    run_clean: Runner, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    async def main() -> None:
        relays = Relays(broken=broken)
        monkeypatch.setattr(loopback, "relay_ipv6", relays)
        with pytest.raises(OSError, match="broken"):
            async with OpenPorts(Machine(), FORWARDS):
                assert relays.open == [1, 2, 3]
        assert relays.open == []

    run_clean(main())
