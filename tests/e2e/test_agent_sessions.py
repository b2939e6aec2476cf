"""The agent's terminal in a real machine: up, detach, attach, a second terminal, the end."""

from __future__ import annotations

import contextlib
import os
import signal

from screen_terminal import ScreenTerminal
from world import UP_S, World, wait_until

ANSWER_S = 60.0
AGENT = r"""
import os, signal, sys, tty
tty.setraw(0)
keys = []
def paint(*_):
    rows, columns = os.get_terminal_size(0).lines, os.get_terminal_size(0).columns
    os.write(1, f"\x1b[2J\x1b[Hpid {os.getpid()} at {columns}x{rows} typed {''.join(keys)}.".encode())
signal.signal(signal.SIGWINCH, paint)
os.write(1, b"\x1b[?1049h\x1b[?2004h")
paint()
while True:
    key = os.read(0, 1)
    if key == b"q":
        os.write(1, b"\x1b[?2004l\x1b[?1049l")
        sys.exit(7)
    keys.append(key.decode("latin-1"))
    paint()
"""


def test_an_agent_outlives_its_terminals(world: World) -> None:
    project = world.project(
        "name: living\nagent: {command: [python3, agent.py]}\nmounts: [.:/workspace]\n", {"agent.py": AGENT}
    )
    with contextlib.ExitStack() as stack:

        def terminal(*argv: str, size: tuple[int, int] = (24, 80)) -> ScreenTerminal:
            return stack.enter_context(contextlib.closing(ScreenTerminal(world, project, *argv, size=size)))

        def state() -> str:
            return str(world.listed(project)[0]["agent"]["state"])

        first = terminal("up", "--yes", "--progress", "quiet", size=(60, 200))
        shown = first.wait_for_text("at 200x60 typed .", UP_S)
        pid = int(shown.partition("pid ")[2].split()[0])
        first.type("a")
        first.wait_for_text("typed a.", ANSWER_S)
        first.detach(ANSWER_S)
        assert state() == "detached"
        assert world.run(project, f"ps -o user= -p {pid}").ok().out == "agent\n"

        second = terminal("up", "--progress", "quiet")  # the sandbox runs: this joins the agent
        second.wait_for_text(f"pid {pid} at 80x24 typed a.", ANSWER_S)
        third = terminal("attach", size=(30, 90))
        third.wait_for_text(f"pid {pid} at 90x30 typed a.", ANSWER_S)
        third.type("b")
        second.wait_for_text("typed ab.", ANSWER_S)
        os.kill(second.child.pid, signal.SIGKILL)
        third.child.close(force=False)  # its terminal is gone
        wait_until(state, lambda word: word == "detached", "a terminal is attached")

        last = terminal("attach", "living")
        last.wait_for_text(f"pid {pid} at 80x24 typed ab.", ANSWER_S)
        last.type("q")
        assert last.wait(ANSWER_S) == 7
        assert state() == "ended"

        shell = terminal("shell")
        shell.type("id -un; pwd; ls; exit 3\r")
        shell.wait_for_text("agent.py", ANSWER_S)
        assert "\nagent\n/workspace\n" in shell.shown and shell.wait(ANSWER_S) == 3
