"""What `doctor` says about the network of guests: which carrier, and why."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from engine.cli.showing.host_report import hints, render
from engine.lifecycle.confinement import PARTS, MachineJail, try_machine
from engine.lifecycle.doctor import NetworkCarrier, try_network
from engine.lifecycle.supervisor_process import environment as _environment
from engine.state.layout import Layout
from vmm.tools import Tool, Tools

REPORT: dict[str, Any] = {
    "host": {"system": "Linux", "cpus": 2, "memory": 1 << 30, "python": "3.11", "descriptors": 1 << 20},
    "tools": [{"name": "passt", "version": "1", "origin": "private", "path": "/p"}],
    "kernel": "6",
    "accelerator": None,
    "confinement": None,
    "directories": {"cache": {"path": "/c", "free": 1 << 40}},
}


def said(network: NetworkCarrier | None) -> tuple[str, str]:
    report = {**REPORT, "network": network._asdict() if network else None}
    _, _, text = render(report).partition("network of guests\n")
    return text.splitlines()[0].strip(), "\n".join(hints(report))


def test_the_carrier_is_named_and_why() -> None:
    assert said(None)[0] == "not tried yet"
    text, notes = said(NetworkCarrier("passt", None))
    assert text == "passt, in a network namespace with nothing but the gateway" and "passt" not in notes
    text, notes = said(NetworkCarrier("user", "passt is not installed"))
    assert text == "QEMU's user network: passt is not installed"
    assert "without passt each connection of a guest costs a process" in notes


def test_what_holds_qemu_is_named_and_what_is_missing() -> None:
    report: dict[str, Any] = {**REPORT, "network": None}
    assert "QEMU\n  not tried yet" in render(report)
    held = MachineJail(("no capability", "Landlock 7"), ("no filter",))
    assert "QEMU\n  confined by no capability, Landlock 7\n  no filter\n" in render(
        {**report, "machine": held._asdict()}
    )


def test_the_jail_of_qemu_is_tried() -> None:
    tried = asyncio.run(try_machine(own_network=False))
    assert "no capability" in tried.holds
    assert len(tried.missing) == len(PARTS) - (len(tried.holds) - 1)
    assert any("network of its own" in sentence for sentence in tried.missing)


def test_it_is_tried_with_the_tools_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = Tool("other", ("/bin/false",), {}, "1", "system", Path("/bin/false"))
    tools = Tools(tool, tool, tool, tool, tool, (), Path("/k"), "6", Path("/k"), Path("/k"), "id")
    assert asyncio.run(try_network(None)) is None
    assert asyncio.run(try_network(tools)) == ("user", "passt is not installed")
    monkeypatch.setenv("SANDBOX_CARRIER", "user")
    assert asyncio.run(try_network(tools)) == ("user", "SANDBOX_CARRIER=user")


def test_the_process_of_a_sandbox_hears_of_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_CARRIER", "user")
    monkeypatch.setenv("SOMETHING_ELSE", "secret")
    passed = _environment(Layout.from_environment(os.environ))
    assert passed["SANDBOX_CARRIER"] == "user" and "SOMETHING_ELSE" not in passed
