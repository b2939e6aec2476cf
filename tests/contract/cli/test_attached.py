"""A command in a guest that this very process holds: what `--shell-on-failure` opens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cli_world import DEADLINE_S

PROGRAM = """
import asyncio, os, socket, sys
from engine.cli.attached import run_within
from engine.cli.running import run
from vmm.channel.guest import GuestChannel
from vmm.guest.guestd import __main__ as guestd

async def main():
    async with GuestChannel(*await asyncio.open_connection(sock=ours)) as channel:
        await channel.hello(20)
        me = os.geteuid()
        return await run_within(channel, ["sh", "-c", sys.argv[1]], user=me, cwd="/", tty=False)

ours, theirs = socket.socketpair()
child = os.fork()
if child == 0:
    ours.close()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["guestd", "--fd", str(theirs.detach())]
    guestd.main()
theirs.close()
try:
    sys.exit(run(main()))
finally:
    ours.close()
    os.waitpid(child, 0)
"""


def start(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_streams_and_code() -> None:
    with start("pwd; cat; exit 9") as process:
        assert process.communicate("typed\n", DEADLINE_S) == ("/\ntyped\n", None)
        assert process.returncode == 9


def test_what_ends_us_ends_the_command(tmp_path: Path) -> None:
    mark = tmp_path / "ended"
    # The shell tells of its killed `sleep`, and by then nobody reads that any more.
    script = (
        f"exec 2>/dev/null; trap '' HUP; trap 'echo yes > {mark}; exit' TERM; echo ready; while :; do sleep 0.05; done"
    )
    with start(script) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(DEADLINE_S) == 128 + 15
    assert mark.read_text() == "yes\n"
