"""The liar of engine/attacks, with the real loop of guestd: each of its lies is told, and it says so."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from engine.attacks.host.liar import _LIE, KINDS
from vmm.channel.guest import GuestChannel
from vmm.errors import VmmError
from vmm.guest import guestd

DEADLINE_S = 30.0


def program(port: int, gateway: int) -> str:
    """With a descriptor for the guest's port, a gateway of the test's, and no units."""
    text = _LIE.replace("time.sleep(1)", "").replace('["systemctl", ', '["true", ')
    for was, instead in (
        ("/usr/lib/sandbox", str(Path(guestd.__file__).parents[1])),
        ("os.open(port, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)", str(port)),
        ('("10.0.2.100", 80)', f'("127.0.0.1", {gateway})'),
    ):
        assert was in text
        text = text.replace(was, instead)
    return text


def start_liar(what: str, port: int, gateway: int) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-E", "-c", program(port, gateway), what, "word", "30", "0.1", "30"]
    return subprocess.Popen(argv, pass_fds=[port], stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("what", KINDS)
def test_a_command_is_lied_to(what: str) -> None:
    asked: asyncio.Queue[str] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.put_nowait((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        writer.close()

    async def lie(ours: socket.socket, theirs: socket.socket) -> None:
        gateway = await asyncio.start_server(answer, "127.0.0.1", 0)
        with start_liar(what, theirs.fileno(), gateway.sockets[0].getsockname()[1]) as liar:
            theirs.close()
            try:
                async with asyncio.timeout(DEADLINE_S):
                    assert "Host: word.bookmark.invalid" in await asked.get()
                    async with GuestChannel(*await asyncio.open_connection(sock=ours)) as channel:
                        await channel.hello(DEADLINE_S)
                        assert asked.empty(), "it has told nobody anything"
                        running = asyncio.ensure_future(channel.run(["true"], timeout_s=DEADLINE_S))
                        assert "Host: told-word.bookmark.invalid" in await asked.get()
                        running.cancel()
                        with contextlib.suppress(asyncio.CancelledError, VmmError):
                            await running
                assert await asyncio.to_thread(liar.wait, DEADLINE_S) == 0, "it ends when nobody asks any more"
            finally:
                liar.kill()
                gateway.close()

    ours, theirs = socket.socketpair()
    with ours, theirs:
        asyncio.run(lie(ours, theirs))
