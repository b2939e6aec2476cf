"""The guestd that lies, which `sandbox doctor --attack` runs in a guest: here without a machine, asked by us."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from engine.attacks.host.liar import _LIE, KINDS
from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel

T = 40.0
ANSWER_S = 3.0
# What there is in a guest alone: its port, its systemd, the gateway and where guestd lies.
INSTEAD = {
    '"/usr/lib/sandbox"': repr(str(Path(__file__).parents[3] / "vmm/guest")),
    "subprocess.run(": "(lambda *words, **options: None)(",
    'socket.create_connection(("10.0.2.100", 80), 30)': "__import__('unittest.mock').mock.MagicMock()",
    "time.sleep(1)": "pass",
}

SEEN = {
    "other types": "the guest reported no exit code",
    "numbers": "the guest reported no exit code",
    "a number without end": "the guest's answer cannot be read: Exceeds the limit",
    "deep": "the guest's answer cannot be read: JSON nested too deeply",
    "errors that control a terminal": "\ud800\x1b]52;c;QUFB\x07\u202e",  # made harmless where it is printed
    "two answers": "code 0",
    "an answer before the words": "code 0",
    "words without end": "true: not done within",
    "nothing": "true: not done within",
}


def liar_on(number: int) -> str:
    program = _LIE.replace(
        "os.open(port, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC), is_port=True", f"{number}, is_port=False"
    )
    for there, here in INSTEAD.items():
        assert there in program
        program = program.replace(there, here)
    return program


@pytest.mark.parametrize("what", KINDS)
def test_whoever_asks_it_gets_a_word_and_no_bug(what: str) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    argv = [sys.executable, "-c", liar_on(theirs.fileno()), what, "word", "20", "40"]
    with subprocess.Popen(argv, pass_fds=[theirs.fileno()]) as liar:
        theirs.close()
        try:
            said = asyncio.run(ask(ours))
        finally:
            ours.close()
            liar.terminate()
    assert len(said) == 2 and all(one.startswith(SEEN[what]) for one in said), said


async def ask(connection: socket.socket) -> list[str]:
    """What came of two commands: a code, what the channel says of the answer, or that none came."""
    said = []
    async with asyncio.timeout(T):
        reader, writer = await asyncio.open_connection(sock=connection)
        async with GuestChannel(reader, writer) as channel:
            await channel.hello(T)
            for _ in range(2):
                try:
                    said.append(f"code {(await channel.run(['true'], timeout_s=ANSWER_S)).code}")
                except GuestError as error:
                    said.append(error.brief)
    return said
