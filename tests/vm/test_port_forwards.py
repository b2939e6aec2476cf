"""Ports of the host, opened and closed while QEMU runs: its monitor's own words, with no guest behind them."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from foundation_world import shared_tools

from engine.resolve.host_ports import pick_port, port_is_free
from vmm.errors import VmmError
from vmm.machine import start_machine
from vmm.spec import HostForward, MachineSpec, Memory, Network


def test_a_port_is_opened_and_closed_while_it_runs(tmp_path: Path) -> None:
    async def main() -> None:
        tools = await shared_tools()
        first, second = HostForward(pick_port(), 80), HostForward(pick_port(), 81)
        spec = MachineSpec(
            name="ports",
            accelerator="tcg",
            cpus=1,
            memory=Memory(64 * 1024 * 1024),
            kernel=tools.kernel,
            initrd=tools.kernel,  # nothing is booted: it waits for a snapshot that does not come
            append="",
            drives=(),
            network=Network(host_forwards=(first,)),
            incoming=True,
        )
        async with start_machine(spec, tools, console_log=tmp_path / "console") as machine:
            assert not port_is_free(first.host_port) and port_is_free(second.host_port)
            await machine.add_forward(second)
            assert not port_is_free(second.host_port)
            await machine.remove_forward(second)
            assert port_is_free(second.host_port)
            await machine.remove_forward(second)  # is gone already: nothing to complain about
            await machine.remove_forward(first)
            assert port_is_free(first.host_port)
            with socket.socket() as somebody:
                somebody.bind(("127.0.0.1", 0))
                somebody.listen()
                taken = HostForward(somebody.getsockname()[1], 82)
                with pytest.raises(VmmError, match=f"could not open port 127.0.0.1:{taken.host_port}") as caught:
                    await machine.add_forward(taken)
                assert "Could not set up host forwarding rule" in str(caught.value.details)

    asyncio.run(main())
