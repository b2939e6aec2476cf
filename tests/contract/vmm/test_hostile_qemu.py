"""A program in QEMU's place, started as QEMU is, that tries everything which an attacker would in a QEMU of his own.

Each attempt must fail there; and most of them must work without the jail, or they would prove nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from open_memory import open_memory

from vmm import machine as machine_module
from vmm.carrier import Carrier
from vmm.confine import landlock_version
from vmm.jail import Jail
from vmm.machine import start_machine
from vmm.spec import Drive, GuestForward, MachineSpec, Memory, Network
from vmm.system_calls import ARCHITECTURES
from vmm.tools import Tool, Tools

T = 60.0
MIB = 1 << 20
PYTHON = Path(sys.executable).resolve()
STUB = Path(__file__).parents[2] / "support" / "hostile_qemu.py"
# What other walls of a host may stop without ours (Yama, a container, an ordinary user's rights).
NOT_EVERYWHERE = {
    *("shadow", "packets", "memory of its starter by a call", "trace a process", "more descriptors", "groups"),
    *("mount", "namespace", "device node", "chroot", "keys", "io_uring", "a process by clone3", "signal to all"),
    *("memory of its starter", "environment of its starter", "link a file there", "become another"),
    "memory without end",
}
# With the user network QEMU starts a program for each connection, and uses sockets. Its signals reach itself only.
WITH_HELPERS = {
    *("a process", "a process by clone3", "its own program", "TCP", "UDP", "listen", "a unix socket", "netlink"),
    *("packets", "a program out of memory", "signal to all"),
}
NEEDED_BY_ALL = pytest.mark.skipif(
    landlock_version() < 6 or platform.machine() not in ARCHITECTURES, reason="this kernel lacks a part of it"
)


class Surroundings:
    """A sandbox's directory, the user's home beside it, somebody who listens, and a process that may be attacked."""

    def __init__(self, root: Path, stack: contextlib.ExitStack) -> None:
        self.inside, self.outside = root / "inside", root / "outside"
        other = root / "other"
        for directory in (self.inside, self.outside, other):
            directory.mkdir()
        for path in (self.outside / "file", self.inside / "configuration.json", other / "disk.qcow2"):
            path.write_text("secret\n")
        self.disk, self.base = self.inside / "disk.raw", root / "base.raw"
        self.disk.write_bytes(bytes(512))
        self.base.write_bytes(bytes(512))
        shutil.copy("/bin/true", self.inside / "program")
        listeners = [stack.enter_context(socket.socket(family)) for family in (socket.AF_INET, *[socket.AF_UNIX] * 2)]
        receiver = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        receiver.bind(("127.0.0.1", 0))
        abstract = f"sandbox-{uuid.uuid4().hex}"
        listeners[0].bind(("127.0.0.1", 0))
        with contextlib.chdir(self.outside):  # a socket's name is short, and tmp_path is not
            listeners[1].bind("listens")
        listeners[2].bind("\0" + abstract)
        for listener in listeners:
            listener.listen(16)
        self.listeners = listeners
        text = ctypes.create_string_buffer(16)
        victim = stack.enter_context(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        stack.callback(victim.kill)
        self.memory = stack.enter_context(open_memory(MIB))
        self.told: dict[str, Any] = {
            "victim": victim.pid,
            "address": ctypes.addressof(text),
            "outside": str(self.outside),
            "inside": str(self.inside),
            "other": str(other / "disk.qcow2"),
            "disk": str(self.disk),
            "base": str(self.base),
            "true": shutil.which("true"),
            "python": str(PYTHON),
            "tcp": listeners[0].getsockname()[1],
            "udp": receiver.getsockname()[1],
            "abstract": abstract,
            "uid": os.getuid(),
            "memory": self.memory,
        }

    async def attempt(self, network: Network | None, carrier: Carrier | None) -> dict[str, dict[str, str]]:
        """What came of each attempt. Raises VmmError with the stub's last words when it did not get that far."""
        environment = {"TOLD": json.dumps(self.told)}
        kernel = self.inside.parent / "kernel"  # a file that it may read
        shutil.copy(STUB, kernel)
        stub = Tool("stub", (str(PYTHON), "-I", "-S", str(kernel)), environment, "10.0", "system", PYTHON)
        tools = Tools(stub, stub, stub, stub, stub, (), kernel, "6.1", kernel, kernel, "id")
        spec = MachineSpec(
            "hostile",
            "tcg",
            1,
            Memory(MIB, Path(f"/proc/self/fd/{self.memory}"), shared=True),
            kernel,
            kernel,
            "",
            (Drive(self.base, "root", "raw", read_only=True), Drive(self.disk, "disk", "raw")),
            network=network,
        )
        log = self.inside.parent / "console.log"
        async with start_machine(spec, tools, carrier, console_log=log, pass_fds=(self.memory,)) as machine:
            await machine.console.wait_for("END", T)
        return dict(json.loads(log.read_text().splitlines()[0]))


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[Surroundings]:
    with contextlib.ExitStack() as stack:
        yield Surroundings(tmp_path, stack)


def can_have_a_network() -> bool:
    """Whether this user may make a network namespace, as passt's carrier finds out."""
    return subprocess.run(["unshare", *([] if os.geteuid() == 0 else ["-Ur"]), "-n", "true"]).returncode == 0


@NEEDED_BY_ALL
@pytest.mark.parametrize("own_network", [True, False])
def test_whoever_takes_qemu_over_gets_nothing(
    surroundings: Surroundings, own_network: bool, run_clean: Callable[..., Any]
) -> None:
    if own_network and not can_have_a_network():
        pytest.skip("this host forbids network namespaces to this user")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        carrier = Carrier("passt", stream=theirs) if own_network else None
        network = Network(stream=theirs.fileno()) if own_network else None
        seen = run_clean(surroundings.attempt(network, carrier))
    assert {name: error for name, error in seen["attempts"].items() if not error} == {}, seen
    assert {name: error for name, error in seen["own"].items() if error} == {}
    for listener in surroundings.listeners:
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert (surroundings.outside / "file").read_text() == "secret\n"


def test_without_the_jail_the_attempts_work(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch, run_clean: Callable[..., Any]
) -> None:
    def no_jail(*_: object, **__: object) -> Jail | None:
        return None

    monkeypatch.setattr(machine_module, "machine_jail", no_jail)
    seen = run_clean(surroundings.attempt(None, None))
    assert {name: error for name, error in seen["attempts"].items() if error and name not in NOT_EVERYWHERE} == {}
    assert {name: error for name, error in seen["own"].items() if error} == {}


@NEEDED_BY_ALL
def test_with_the_user_network_it_starts_its_helper_and_nothing_else(
    surroundings: Surroundings, run_clean: Callable[..., Any]
) -> None:
    network = Network((GuestForward(443, surroundings.outside / "listens"),))
    attempts = run_clean(surroundings.attempt(network, Carrier("user")))["attempts"]
    assert {name for name, error in attempts.items() if not error} <= WITH_HELPERS, attempts
    assert attempts["its own program"] == attempts["a unix socket"] == ""
    assert attempts["a program"] == attempts["a program of its own"] == "EACCES"


def test_the_stub_is_bounded() -> None:
    """It ends with its control connection: nothing of it outlives a test."""
    text = STUB.read_text()
    assert "while control.recv" in text and "while True" not in text
