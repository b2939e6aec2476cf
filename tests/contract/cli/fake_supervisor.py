"""A supervisor with the real guestd as a child process in the place of a machine: `fake_supervisor.py NAME PROJECT`.

Writes the record, serves the control socket, says "ready", and ends at `down`, at a signal, or with its standard input.
With --echo it answers `exec` itself with the request; with --silent it answers nothing and says "asked" instead.
`apply` it answers as if all parts had been changed, or, with --breaks=PART, those before that one; with --changing=N
the first N are told that a context has changed meanwhile. The requests are kept beside the record, the last one in
`asked.json`, all of them in `asked.jsonl`. --member=NAME is the sandbox of one of several agents, --agent=WORDS (JSON)
the command of its agent. --gateway=RULES has a real gateway with these rules (JSON), behind which everything ends at
one server; --wait=S bounds its questions.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

from engine.decoding import decode
from engine.gateway.journal import Journal
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule
from engine.gateway.server import Gateway, start_gateway
from engine.gateway.waiting import Waiting
from engine.guest.guest import Guest
from engine.state.instances import AgentCall, Instance, save_instance
from engine.state.layout import Layout
from engine.state.processes import describe_process
from engine.supervisor.adjuster import Adjuster
from engine.supervisor.live import live_handlers
from engine.supervisor.ports import OpenPorts
from vmm.channel.guest import GuestChannel
from vmm.channel.relay import Relay
from vmm.guest.guestd import __main__ as guestd


@contextlib.asynccontextmanager
async def _gateway(layout: Layout, name: str, rules: list[Rule], waiting: Waiting) -> AsyncIterator[Gateway]:
    """Everything that it connects to ends at one server. It speaks plain HTTP, and of /half it sends the beginning."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = 100 if b" /half " in head else 2
                writer.write(b"HTTP/1.1 200 Fine\r\nContent-Length: %d\r\n\r\nok" % length)
        writer.close()

    async def resolver(host: str, port: int) -> list[str]:
        return ["203.0.113.10"]

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    real = server.sockets[0].getsockname()[1]

    async def connect(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", real)

    paths = layout.instance(name)
    paths.directory.mkdir(parents=True, exist_ok=True)
    with Journal(paths.journal, sandbox=name) as journal:
        ways: dict[str, Any] = {"resolver": resolver, "connect": connect, "waiting": waiting}
        async with start_gateway(Policy(rules), paths.sockets.directory, journal, **ways) as gateway:
            yield gateway
    server.close()


async def serve(name: str, project: Path, flags: list[str], guest: socket.socket) -> None:
    layout = Layout.from_environment(os.environ)
    control = layout.instance(name).sockets.control
    control.parent.mkdir(mode=0o700, exist_ok=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(0, stop.set)
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    async def down(request: dict[str, Any], stream: Any) -> dict[str, Any]:
        stop.set()
        return {}

    async def echo(request: dict[str, Any], stream: Any) -> dict[str, Any]:
        await stream.send(json.dumps(request).encode() + b"\n", 1)
        return {"code": 0}

    options = dict(flag.split("=", 1) for flag in flags if "=" in flag)
    changing = ["once more"] * int(options.get("--changing", 0))

    async def apply(request: dict[str, Any], stream: Any) -> dict[str, Any]:
        layout.instance(name).record.with_name("asked.json").write_text(json.dumps(request))
        with layout.instance(name).record.with_name("asked.jsonl").open("a") as file:
            file.write(json.dumps(request) + "\n")
        await stream.send(b'{"text": "work in ', 1)
        await stream.send(b'progress"}\n{"text": "more"}\n', 1)
        parts = list(request["parts"])
        if changing:
            changing.pop()
            why = {"brief": "web changed while it was copied", "details": None, "hint": None, "changed": "web"}
            return {"applied": [], "failed": {"part": parts[0], **why}}
        if (broken := options.get("--breaks")) not in parts:
            return {"applied": parts, "failed": None}
        why = {"brief": "it broke", "details": "the log says so", "hint": "mend it"}
        return {"applied": parts[: parts.index(broken)], "failed": {"part": broken, **why}}

    async def silence(request: dict[str, Any], stream: Any) -> dict[str, Any]:
        print("asked", flush=True)
        await asyncio.Event().wait()
        raise AssertionError

    stack = contextlib.AsyncExitStack()
    handlers = {"down": down, "apply": apply, **({"exec": echo} if "--echo" in flags else {})}
    if "--silent" in flags:
        handlers |= dict.fromkeys(("exec", "stat", "ping", "down", "apply"), silence)
    record = Instance(
        name=name,
        project=str(project),
        file=str(project / "Sandboxfile.yaml"),
        plan_key="0",
        created="2026-01-01T00:00:00+00:00",
        state="running",
        pid=os.getpid(),
        process=describe_process(os.getpid()),
        ports=[{"host": 8080, "guest": 80}],
        services={"web": {"state": "running", "health": "healthy"}, "db": {"state": "running", "health": ""}}
        if "--gateway" not in options
        else {},
        working_directory=str(project),
        agent_name=options.get("--member"),
        agent=AgentCall(json.loads(options["--agent"]), getpass.getuser()) if "--agent" in options else None,
    )
    async with stack, GuestChannel(*await asyncio.open_connection(sock=guest)) as channel:
        await channel.hello(20)
        if "--gateway" in options:
            rules = [decode(Rule, rule) for rule in json.loads(options["--gateway"])]
            waiting = Waiting(float(options.get("--wait", 60)))
            gateway = await stack.enter_async_context(_gateway(layout, name, rules, waiting))
            machine = Guest(cast("Any", None), channel, gateway, None, cast("Any", None))
            handlers |= live_handlers(layout, name, machine, Adjuster(layout, name, machine, OpenPorts([])))
        async with Relay(channel, control, handlers):
            save_instance(layout, record)
            print("ready", flush=True)
            await stop.wait()


def set_no_identity() -> None:
    """What guestd is told to be it must not become here: the machine is the host that runs the tests."""
    from vmm.guest.guestd import identity

    for name in ("trust_certificate", "write_file", "add_entropy"):
        setattr(identity, name, lambda *words: None)


def main() -> None:
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["guestd", "--fd", str(theirs.detach())]
        set_no_identity()
        guestd.main()
    theirs.close()
    try:
        asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), sys.argv[3:], ours))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
