"""What carries packets, with a program in passt's place that dials on demand. The network around it is real."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.gateway.doors import Addresses
from engine.gateway.journal import Journal
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule
from engine.gateway.server import start_gateway
from vmm.carrier import CARRIER_VARIABLE, Carrier, NoPasst, open_carrier, start_passt, wanted_passt
from vmm.errors import VmmError
from vmm.spec import GuestForward, Network
from vmm.tools import Tool, Tools

T = 50.0
ROOT = Path(__file__).parents[3]
DOORS = [("10.0.2.100", 80), ("10.0.2.100", 443), ("10.0.2.101", 5432)]
# Answers ARP as passt does, and then a JSON text a line: what to connect to, and what to say there.
DIALER = """
import json, socket, struct, sys

stream = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
(length,) = struct.unpack("!I", stream.recv(4, socket.MSG_WAITALL))
frame = stream.recv(length, socket.MSG_WAITALL)
reply = frame[6:12] + b"router" + frame[12:20] + b"\\0\\2" + b"router" + frame[38:42] + frame[22:32]
stream.sendall(struct.pack("!I", len(reply)) + reply)
for line in stream.makefile("rb"):
    kind, family, address, words = json.loads(line)
    with socket.socket(getattr(socket, family), getattr(socket, kind)) as client:
        client.settimeout(20)
        try:
            client.connect(tuple(address))
            client.send(words.encode())
            heard = b""
            while kind == "SOCK_STREAM" and (more := client.recv(1000)):
                heard += more
            said = heard.decode()
        except OSError as error:
            said = error.strerror or str(error)
    stream.sendall(json.dumps(said).encode() + b"\\n")
"""
REFUSED, NOWHERE = "Connection refused", "Network is unreachable"


def program(directory: Path, text: str, *arguments: str) -> Tool:
    script = directory / "program.py"
    script.write_text(text)
    return Tool("passt", (sys.executable, "-I", str(script), *arguments), {}, "1", "system", script)


def tools(passt: Tool | None) -> Tools:
    tool = Tool("other", ("/bin/false",), {}, "1", "system", Path("/bin/false"))
    kernel = Path("/k")
    return Tools(tool, tool, tool, tool, tool, (), kernel, "6", kernel, kernel, "id", passt)


def gives_namespaces() -> bool:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from vmm import empty_network; empty_network.enter()"
    argv = [sys.executable, "-I", "-c", code, str(ROOT)]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


needs_namespaces = pytest.mark.skipif(not gives_namespaces(), reason="this host gives no network namespace")


def run(main: Any) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(T):
            return await main

    return asyncio.run(limited())


async def dial(
    carrier: Carrier, address: Sequence[Any], kind: str = "SOCK_STREAM", family: str = "AF_INET", words: str = ""
) -> str:
    """What becomes of a connection to `address` from where those of the guest come out."""
    assert carrier.stream
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(carrier.stream, json.dumps([kind, family, list(address), words]).encode() + b"\n")
    said = b""
    while not said.endswith(b"\n"):
        more = await loop.sock_recv(carrier.stream, 1000)
        assert more, "the program has ended"
        said += more
    return str(json.loads(said))


@contextlib.asynccontextmanager
async def greeting(listener: socket.socket, word: str) -> AsyncIterator[None]:
    def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(word.encode())
        writer.close()

    async with await asyncio.start_server(greet, sock=listener.dup()):
        yield


@needs_namespaces
def test_nothing_but_the_doors_can_be_reached(tmp_path: Path) -> None:
    """The kernel's word, whatever program runs there: every other address has no listener or no route."""

    async def main(own: int, wide: int) -> None:
        async with contextlib.AsyncExitStack() as stack:
            carrier = await stack.enter_async_context(start_passt(program(tmp_path, DIALER), DOORS))
            for (address, port), listener in carrier.listeners.items():
                await stack.enter_async_context(greeting(listener, f"{address} {port}"))
            for address, port in DOORS:
                assert await dial(carrier, (address, port)) == f"{address} {port}"
            for there in [("127.0.0.1", own), ("10.0.2.100", own), ("127.0.0.1", 80), ("10.0.2.101", 80)]:
                assert await dial(carrier, there) == REFUSED, there
            assert await dial(carrier, ("0.0.0.0", wide)) == REFUSED
            for name in ("10.0.2.2", "10.0.2.102", "10.1.1.1", "1.1.1.1", "169.254.169.254", "192.168.0.1"):
                assert await dial(carrier, (name, 80)) == NOWHERE, name
                assert await dial(carrier, (name, 53), "SOCK_DGRAM") == NOWHERE, name
            for name in ("2606:4700:4700::1111", "fe80::1", "fd00::1", "::ffff:1.1.1.1"):
                assert await dial(carrier, (name, 80), family="AF_INET6") in (NOWHERE, "Invalid argument"), name
            assert await dial(carrier, ("::1", own), family="AF_INET6") == REFUSED

    with socket.create_server(("127.0.0.1", 0)) as host, socket.create_server(("0.0.0.0", 0)) as wide:
        run(main(host.getsockname()[1], wide.getsockname()[1]))


@needs_namespaces
def test_the_gateway_listens_in_there_and_goes_out_from_here(tmp_path: Path) -> None:
    async def resolve(name: str, port: int) -> list[str]:
        return ["203.0.113.1"]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
        writer.close()

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            upstream = await asyncio.start_server(answer, "127.0.0.1", 0)
            await stack.enter_async_context(upstream)

            async def connect(address: str, port: int) -> Any:
                return await asyncio.open_connection(*upstream.sockets[0].getsockname()[:2])

            carrier = await stack.enter_async_context(start_passt(program(tmp_path, DIALER), DOORS[:2]))
            journal = stack.enter_context(contextlib.closing(Journal(tmp_path / "journal")))
            rule = Rule("example.com")
            gateway = await stack.enter_async_context(
                start_gateway(
                    Policy([rule]), tmp_path, journal, resolver=resolve, connect=connect, listeners=carrier.listeners
                )
            )
            request = "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"
            assert (await dial(carrier, DOORS[0], words=request)).endswith("\r\n\r\nhi")
            assert " 403 " in await dial(carrier, DOORS[0], words=request.replace("example", "example2"))
            # No way past the listeners: neither sockets with a name, nor a port that came later.
            assert gateway.sockets == {} and not list(tmp_path.glob("*.sock"))
            assert gateway.set_policy(Policy([rule, Rule("example.com", 81)])) == (81,)
            assert await dial(carrier, ("10.0.2.100", 81)) == REFUSED

    run(main())


@needs_namespaces
def test_a_name_with_an_address_of_its_own_is_behind_that_address_alone(tmp_path: Path) -> None:
    async def resolve(name: str, port: int) -> list[str]:
        return ["203.0.113.1"]

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            upstream = await asyncio.start_server(lambda _, writer: say(writer), "127.0.0.1", 0)
            await stack.enter_async_context(upstream)

            async def connect(address: str, port: int) -> Any:
                return await asyncio.open_connection(*upstream.sockets[0].getsockname()[:2])

            policy = Policy([Rule("db.example.com", 5432, raw=True), Rule("git.example.com", 22, raw=True)])
            doors = [(door.address, door.port) for door in Addresses().doors(policy)]
            carrier = await stack.enter_async_context(start_passt(program(tmp_path, DIALER), doors))
            journal = stack.enter_context(contextlib.closing(Journal(tmp_path / "journal")))
            gateway = await stack.enter_async_context(
                start_gateway(policy, tmp_path, journal, resolver=resolve, connect=connect, listeners=carrier.listeners)
            )
            for name, port in policy.raw_endpoints():
                assert await dial(carrier, (gateway.names[name], port)) == "I speak first"
            for place in (("10.0.2.100", 5432), ("10.0.2.101", 22), ("10.0.2.102", 5432)):
                assert await dial(carrier, place) == REFUSED, place
            assert gateway.set_policy(Policy([Rule("db.example.com", 5432, raw=True)])) == ()
            assert await dial(carrier, ("10.0.2.102", 22)) == ""
            assert gateway.set_policy(policy) == ()
            assert gateway.set_policy(Policy([Rule("db.example.com", 5433, raw=True)])) == (5433,)

    run(main())


def say(writer: asyncio.StreamWriter) -> None:
    writer.write(b"I speak first")
    writer.close()


@needs_namespaces
def test_qemu_gets_one_descriptor_and_the_program_ends_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with start_passt(program(tmp_path, DIALER), DOORS) as carrier:
            assert carrier.stream and carrier.ended
            assert carrier.network({}) == Network(stream=carrier.stream.fileno())
            assert carrier.descriptors == (carrier.stream.fileno(),)
            carrier.hand_over()  # nobody else has inherited it here
            assert await carrier.ended == ""  # with code 0: whoever had the other end has ended

    run(main())


@needs_namespaces
def test_a_program_that_fails_leaves_its_words(tmp_path: Path) -> None:
    text = DIALER.replace("for line in", "stream.recv(1); sys.exit('no more')\nfor line in")

    async def main() -> None:
        async with start_passt(program(tmp_path, text), DOORS) as carrier:
            assert carrier.stream and carrier.ended
            carrier.stream.send(b"x")
            assert "has ended (1): no more" in await carrier.ended

    run(main())


@needs_namespaces
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import sys; sys.exit('no user namespace for me')", "no user namespace for me"),
        ("import os; os.abort()", "passt ended with code -6: it said nothing"),
        ("import sys; print('line 1', file=sys.stderr); sys.exit('line 2')", "line 2"),
    ],
)
def test_a_program_that_does_not_serve_is_not_used(tmp_path: Path, text: str, why: str) -> None:
    async def main() -> None:
        async with open_carrier(tools(program(tmp_path, text)), DOORS) as carrier:
            assert carrier.kind == "user"
            assert why in carrier.reason
            sockets = {DOORS[0]: Path("/r/gw-80.sock")}
            assert carrier.network(sockets) == Network((GuestForward(80, Path("/r/gw-80.sock"), "10.0.2.100"),))
            assert carrier.descriptors == ()

    run(main())


def test_a_host_without_namespaces_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmm import carrier as module

    forbid = "import vmm.empty_network as n, errno; n.enter = lambda: (_ for _ in ()).throw(PermissionError(1, 'no')); "
    monkeypatch.setattr(module, "START", module.START.replace("from vmm", forbid + "from vmm", 1))

    async def main() -> None:
        async with open_carrier(tools(program(tmp_path, DIALER)), DOORS) as carrier:
            assert carrier.kind == "user"
            assert carrier.reason == "this host gives us no network namespace: [Errno 1] no"

    run(main())


def test_the_user_can_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passt = program(tmp_path, DIALER)
    assert wanted_passt(tools(passt)) == passt
    with pytest.raises(NoPasst, match="not installed"):
        wanted_passt(tools(None))
    monkeypatch.setenv(CARRIER_VARIABLE, "user")
    with pytest.raises(NoPasst, match="SANDBOX_CARRIER=user"):
        wanted_passt(tools(passt))
    monkeypatch.setenv(CARRIER_VARIABLE, "nonsense")
    with pytest.raises(VmmError, match="nonsense"):
        wanted_passt(tools(passt))
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv(CARRIER_VARIABLE, "passt")
    with pytest.raises(NoPasst, match="Linux"):
        wanted_passt(tools(passt))


OWNER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from vmm.carrier import start_passt
from vmm.tools import Tool

async def main():
    script = Path(sys.argv[2])
    program = Tool("passt", (sys.executable, "-I", str(script)), {}, "1", "system", script)
    async with start_passt(program, []) as carrier:
        print("ready", flush=True)
        await carrier.ended

asyncio.run(main())
"""


@needs_namespaces
def test_it_dies_with_its_owner(tmp_path: Path) -> None:
    """Also a program that does not read: its end is not left to its good will."""
    deaf = program(tmp_path, DIALER.replace("for line in", "import time; time.sleep(1000)\nfor line in"))
    argv = [sys.executable, "-c", OWNER, str(ROOT), str(deaf.path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as owner:
        assert owner.stdout and owner.stdout.readline() == b"ready\n"
        [pid] = [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if runs(entry, str(deaf.path), owner.pid)]
        hold = os.pidfd_open(pid)
        try:
            owner.send_signal(signal.SIGKILL)
            run(ended(hold))
        finally:
            os.close(hold)


async def ended(hold: int) -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().add_reader(hold, event.set)
    await event.wait()
    asyncio.get_running_loop().remove_reader(hold)


def runs(entry: Path, script: str, parent: int) -> bool:
    try:
        ours = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent
        return ours and script.encode() in (entry / "cmdline").read_bytes()
    except OSError:
        return False
