"""What listens while a sandbox is paused: nothing that connects is lost, and it ends with the pause."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from engine.supervisor import held_ports
from engine.supervisor.held_ports import TakenPorts, end_waker, start_waker, wait_for_waker
from engine.supervisor.ports import OpenPorts
from engine.supervisor.waker import Waker
from vmm.spec import HostForward

DEADLINE_S = 30.0


class World:
    """A paused sandbox `shop`, and a `resume` that writes down what it was given and does what the test says."""

    def __init__(self, base: Path) -> None:
        self.directory = base / "wake"
        self.paused = base / "paused"
        self.log = base / "log"
        self.resumed = base / "resumed"
        self.process: subprocess.Popen[bytes] | None = None
        self.paused.mkdir()
        self.resumes("pass")

    def resumes(self, script: str) -> None:
        """`resume` runs this, beside noting its words and environment."""
        package = self.paused.parent / "engine" / "cli"
        package.mkdir(parents=True, exist_ok=True)
        note = f"""
            import json, os, sys
            with open({str(self.resumed)!r}, "a") as file:
                file.write(json.dumps([sys.argv[1:], os.environ.get("KEY")]) + "\\n")
            """
        (package / "main.py").write_text(textwrap.dedent(note) + textwrap.dedent(script))

    def start(self) -> tuple[int, subprocess.Popen[bytes]]:
        """The port, and the waker, whose supervisor has ended."""
        with OpenPorts([HostForward(0, 80)]) as ports:
            ((_, listener), *more) = held = ports.let_go()
        port = listener.getsockname()[1]
        process = start_waker("shop", self.directory, self.paused, held, {"KEY": "a value"}, self.log)
        for _, one in (held[0], *more):
            one.close()
        asyncio.run(wait_for_waker(process, self.directory))
        assert process.stdin is not None
        process.stdin.close()
        self.process = process
        return port, process


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path)
    # The process under test is the real one; the `resume` that it starts is the test's.
    monkeypatch.setattr(held_ports.sys, "executable", _python(tmp_path, world))
    yield world
    end_waker(world.directory)
    if world.process is not None:
        world.process.wait(DEADLINE_S)


def _python(base: Path, world: World) -> str:
    """A Python in which `-m engine.cli.main` is the test's."""
    path = base / "python"
    path.write_text(
        f"""#!{sys.executable}
import os, runpy, sys
module, sys.argv = sys.argv[2], sys.argv[2:]
sys.executable = {str(path)!r}
sys.path.insert(0, {str(Path.cwd())!r})
if module == "engine.cli.main":
    runpy.run_path({str(base / "engine/cli/main.py")!r}, run_name="__main__")
else:
    runpy.run_module(module, run_name="__main__")
"""
    )
    path.chmod(0o700)
    return str(path)


def wait_until(check: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not check():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.01)


def connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
    client.sendall(b"the first words")
    return client


def test_the_first_connection_wakes_it_and_is_served(world: World) -> None:
    port, process = world.start()
    with connect(port) as client:
        wait_until(lambda: world.resumed.exists() and world.resumed.read_text().endswith("\n"))
        assert json.loads(world.resumed.read_text()) == [["resume", "--json", "shop"], "a value"]
        taken = TakenPorts.take(world.directory)
        assert taken.listeners and {port for port, _ in taken.listeners} == {0}
        served, _ = taken.listeners[0][1].accept()
        with served:
            assert served.recv(100) == b"the first words"
            served.sendall(b"an answer")
        assert client.recv(100) == b"an answer"
        taken.done()
        assert process.wait(DEADLINE_S) == 0 and not world.directory.exists()
        for _, listener in taken.listeners:
            listener.close()


def test_whoever_wakes_it_gets_the_listeners(world: World) -> None:
    port, process = world.start()
    taken = TakenPorts.take(world.directory)
    with OpenPorts([HostForward(0, 80)], taken.listeners) as ports:
        assert ports.forwards == (HostForward(0, 80),)
        with connect(port):
            served, _ = taken.listeners[0][1].accept()
            with served:
                assert served.recv(3) == b"the"
        taken.done()
        assert process.wait(DEADLINE_S) == 0
    assert not world.resumed.exists(), "it was not asked to wake anything"


def test_what_was_taken_and_not_used_is_watched_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    port, process = world.start()
    taken = TakenPorts.take(world.directory)
    taken.close()
    for _, listener in taken.listeners:
        listener.close()
    client = connect(port)  # it is sent away, or wakes the sandbox, whichever comes first

    def woken() -> bool:
        nonlocal client
        if not world.resumed.exists():
            client.close()
            client = connect(port)
        return world.resumed.exists()

    wait_until(woken)
    client.close()
    assert process.poll() is None


def test_a_resume_that_fails_sends_the_waiting_away_and_is_tried_again(world: World) -> None:
    world.resumes("sys.exit(1)")
    port, process = world.start()
    with connect(port) as client:
        _wait_for_end(client)
    assert world.resumed.read_text().count("resume") == 1
    with connect(port):
        wait_until(lambda: world.resumed.read_text().count("\n") == 2)
    assert "resume ended with 1" in world.log.read_text() and process.poll() is None


def test_who_connects_again_as_soon_as_they_are_sent_away_is_no_part_of_that(tmp_path: Path) -> None:
    class Client:
        def close(self) -> None:
            waiting.append(Client())

    class Listener:
        def accept(self) -> tuple[Client, object]:
            if len(taken) == 10:
                raise AssertionError("it sends away whoever comes, for ever")
            if not waiting:
                raise BlockingIOError
            taken.append(waiting.pop())
            return taken[-1], None

    waiting, taken = [Client(), Client()], list[Client]()
    waker = Waker("shop", tmp_path, [(0, cast("Any", Listener()))], cast("Any", None), {})
    waker._send_away()
    assert len(taken) == 2 and len(waiting) == 2, "they wait for the new try"


def _wait_for_end(client: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""


def test_it_ends_when_it_is_asked_to(world: World) -> None:
    port, process = world.start()
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    assert re.search(r"Max core file size +[01] +[01] ", limits), "values of variables are in its memory"
    end_waker(world.directory)
    assert process.wait(DEADLINE_S) == 0 and not world.directory.exists()
    with pytest.raises(ConnectionRefusedError):
        connect(port)
    end_waker(world.directory)  # once more is no error


def test_it_ends_when_nothing_is_paused_any_more(world: World) -> None:
    _, process = world.start()
    world.paused.rmdir()
    taken = TakenPorts.take(world.directory)
    taken.close()
    assert process.wait(DEADLINE_S) == 0
    for _, listener in taken.listeners:
        listener.close()


def test_without_a_waker_nothing_is_taken(tmp_path: Path) -> None:
    taken = TakenPorts.take(tmp_path / "nowhere")
    assert taken.listeners == []
    taken.done()
