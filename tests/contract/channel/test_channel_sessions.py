"""Terminals that come and go, and a program that stays: sessions of the real guestd, through real terminals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from vmm.channel.errors import GuestError
from vmm.channel.question import ask

T = 20
CLIENT = Path(__file__).parent / "session_client.py"
KEYS = "\x1c\x04"
# Says its size at each change, and repeats what is typed.
SIZES = "trap 'stty size' WINCH; echo up $$; while :; do read -r line && echo got $line; done"
# A program with a screen of its own, in raw mode: it paints anew when its size changes.
SCREEN = r"""
import os, signal, sys, tty
tty.setraw(0)
def paint(*_):
    rows = os.get_terminal_size(0).lines
    os.write(1, b"\x1b[2J\x1b[Hpainted at %d\r\n" % rows)
signal.signal(signal.SIGWINCH, paint)
os.write(1, b"\x1b[?1049h\x1b[?2004h\x1b[?1000h\x1b[?25l\x1b[?1h\x1b[>1u")
paint()
while True:
    try:
        data = os.read(0, 4096)
    except InterruptedError:
        continue
    os.write(1, b"[" + data.hex().encode() + b"]\r\n")
    if data == b"q":
        os.write(1, b"\x1b[<u\x1b[?1l\x1b[?25h\x1b[?1000l\x1b[?2004l\x1b[?1049l")
        sys.exit(5)
"""
COUNTER = """
import os, sys, tty
tty.setraw(0)
os.write(1, b"up\\r\\n")
with open(sys.argv[1], "wb", 0) as copy:
    while data := os.read(0, 4096):
        copy.write(data)
        os.write(1, b"[%d]" % copy.tell())
"""
ON = (b"\x1b[?1049h", b"\x1b[?2004h", b"\x1b[?1000h", b"\x1b[?25l", b"\x1b[?1h", b"\x1b[>1u")
ANSWERS = (b"\x1b[?62;c", b"\x1b[?63;c")
OFF = (b"\x1b[<1u", b"\x1b[?1049l", b"\x1b[?2004l", b"\x1b[?1000l", b"\x1b[?25h", b"\x1b[?1l")


class Terminals:
    """Clients on terminals of their own; all end with the test."""

    def __init__(self, control: Path) -> None:
        self.control = control
        self.open: list[Any] = []

    def __call__(self, *argv: str, size: tuple[int, int] = (24, 80)) -> Any:
        words = [str(CLIENT), str(self.control), *argv]
        child = pexpect.spawn(sys.executable, words, timeout=T, dimensions=size)
        self.open.append(child)
        return child

    def screen(self, *options: str, **how: Any) -> Any:
        return self(*options, "s", sys.executable, "-c", SCREEN, **how)

    def running(self) -> dict[str, Any]:
        answer = ask(self.control, "sessions", {}, T)["running"]
        assert isinstance(answer, dict)
        return answer


@pytest.fixture
def terminals(control: Path) -> Iterator[Terminals]:
    opened = Terminals(control)
    try:
        yield opened
    finally:
        for child in opened.open:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGCONT)
            child.close(force=True)


def ends(child: Any, code: int) -> bytes:
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == code, child.before
    return bytes(child.before)


def detach(child: Any) -> bytes:
    child.send(KEYS)
    child.expect_exact("detached\r\n")
    said = bytes(child.before)
    ends(child, 0)
    return said


def test_a_program_goes_on_without_terminals_and_is_joined_again(terminals: Terminals) -> None:
    first = terminals("s", "sh", "-c", SIZES)
    first.expect(r"up (\d+)\r\n")
    pid = first.match.group(1)
    first.sendline("one")
    first.expect_exact("got one\r\n")
    detach(first)
    assert terminals.running()["s"]["viewers"] == 0
    again = terminals("s", "sh", "-c", "echo another")
    again.expect_exact(b"up " + pid + b"\r\n")  # what was on the screen
    again.expect_exact("got one\r\n")
    again.sendline("two")
    again.expect_exact("got two\r\n")


def test_the_code_is_the_programs_and_the_next_one_is_new(terminals: Terminals) -> None:
    first = terminals("s", "sh", "-c", "echo $$; read line; exit $line")
    first.expect(r"\d+\r\n")
    second = terminals("s")
    second.expect_exact(first.after)
    first.sendline("7")
    ends(first, 7)
    ends(second, 7)
    assert ask(terminals.control, "sessions", {}, T) == {"running": {}, "ended": {"s": {"code": 7, "signal": None}}}
    with pytest.raises(GuestError, match="no session 's' runs"):
        ask(terminals.control, "session", {"name": "s"}, T)
    ends(terminals("s", "sh", "-c", "exit 3"), 3)
    assert b"command not found" in ends(terminals("s", "no-such-program"), 127)
    ends(terminals("s", "sh", "-c", "kill -9 $$"), 137)


def test_keys_are_the_programs_interrupt_and_stop_too(terminals: Terminals) -> None:
    child = terminals(
        "s", "sh", "-c", "trap 'echo interrupted' INT; trap 'echo quit' QUIT; echo up; while :; do read x; done"
    )
    child.expect_exact("up\r\n")
    child.send("\x03")
    child.expect_exact("interrupted\r\n")
    child.send("\x1c\x1c")  # the first one goes on when the second is there
    child.expect_exact("quit\r\n")
    raw = terminals("t", sys.executable, "-c", SCREEN)
    raw.expect_exact("painted at 24\r\n")
    raw.send("\x1a")
    raw.expect_exact("[1a]")


def test_a_screen_is_painted_anew_and_the_modes_are_on(terminals: Terminals) -> None:
    first = terminals.screen()
    first.expect_exact("painted at 24\r\n")
    left = detach(first)
    assert all(word in left for word in OFF), left
    second = terminals.screen(size=(24, 80))  # the same size: the program would notice nothing
    second.expect_exact("painted at 24\r\n")
    assert all(word in second.before for word in ON), second.before
    second.send("q")
    ends(second, 5)


def test_from_a_large_terminal_to_a_small_one_and_back(terminals: Terminals) -> None:
    large = terminals.screen(size=(60, 200))
    large.expect_exact("painted at 60\r\n")
    small = terminals.screen(size=(24, 80))
    small.expect_exact("painted at 24\r\n")
    large.expect_exact("painted at 24\r\n")  # both see the same
    large.send("x")  # whoever works has its size
    large.expect_exact("painted at 60\r\n")
    small.expect_exact("painted at 60\r\n")
    small.setwinsize(30, 90)
    small.expect_exact("painted at 30\r\n")
    detach(small)
    large.expect_exact("painted at 60\r\n")


def test_two_terminals_see_the_same_and_both_type(terminals: Terminals) -> None:
    one = terminals("s", "sh", "-c", SIZES)
    one.expect(r"up \d+\r\n")
    two = terminals("s")
    two.expect(r"up \d+\r\n")
    for typing, text in ((one, "first"), (two, "second")):
        typing.sendline(text)
        for child in (one, two):
            child.expect_exact(f"got {text}\r\n")
    assert terminals.running()["s"]["viewers"] == 2


def test_a_terminal_that_only_looks(terminals: Terminals) -> None:
    one = terminals.screen()
    one.expect_exact("painted at 24\r\n")
    look = terminals("-r", "s", size=(10, 40))
    look.expect_exact("painted at 24\r\n")  # its size counts for nothing
    look.send("x")
    one.send("y")
    for child in (one, look):
        child.expect_exact("[79]")
        assert b"[78]" not in child.before
    look.send("\x03")
    look.expect_exact("detached\r\n")
    ends(look, 0)
    one.send("q")
    ends(one, 5)


def test_a_question_of_the_program_is_answered_once(terminals: Terminals) -> None:
    one = terminals.screen()
    one.expect_exact("painted at 24\r\n")
    two = terminals.screen()
    two.expect_exact("painted at 24\r\n")
    one.send(ANSWERS[0])  # as terminals do by themselves: nobody works at this one
    two.send(ANSWERS[1])
    two.expect_exact(f"[{ANSWERS[1].hex()}]")
    assert ANSWERS[0].hex().encode() not in two.before


def test_what_a_terminal_would_answer_is_not_replayed(terminals: Terminals) -> None:
    script = r"printf 'old\n\033[2Jnew \033[6n\033]11;?\007\033[c\033[?2004h\033P+q544e\033\\end\n'; exec cat"
    one = terminals("s", "sh", "-c", script)
    one.expect_exact("end\r\n")
    detach(one)
    two = terminals("s")
    two.expect_exact("end\r\n")
    assert two.before == b"\x1b[2Jnew "
    two.expect_exact("\x1b[?2004h")


def test_ten_megabytes_arrive_whole(terminals: Terminals) -> None:
    child = terminals("s", sys.executable, "-c", "print('line of text\\n' * 700_000, end='')")
    seen = 0
    while True:
        try:
            seen += child.read_nonblocking(1 << 16, T).count(b"\n")
        except pexpect.EOF:
            break
    child.wait()
    assert (seen, child.exitstatus) == (700_000, 0)


def test_pastes_arrive_whole_and_detach_nothing(terminals: Terminals, tmp_path: Path) -> None:
    """Every byte, the keys among them: in one piece, in brackets, and in brackets that come in pieces themselves."""
    copy = tmp_path / "copy"
    child = terminals("s", sys.executable, "-c", COUNTER, str(copy))
    child.expect_exact("up\r\n")
    keys = KEYS.encode()
    pieces = [bytes(range(256)) * 40 + keys + b"x" * 40]
    pieces += [b"\x1b[200~", keys, b"\x1b[92;5u\x1b[100;5u", b"\x1b[201~"]
    pieces += [b"\x1b[20", b"0~", keys, b"\x1b[2", b"01~", b"\x1cy"]
    sent = b""
    for piece in pieces:
        child.send(piece)
        sent += piece
        child.expect_exact(f"[{len(sent)}]")
    assert copy.read_bytes() == sent
    detach(child)


@pytest.mark.parametrize(
    "keys", ["\x1b[92;5u\x1b[100;5u", "\x1b[27;5;92~\x1b[27;5;100~", "\x1b[92;5:1u\x1b[92;5:3u\x1b[100;69u"]
)
def test_the_keys_in_the_forms_that_programs_ask_for(terminals: Terminals, keys: str) -> None:
    child = terminals.screen()
    child.expect_exact("painted at 24\r\n")
    child.send(keys)
    child.expect_exact("detached\r\n")
    ends(child, 0)


def test_other_keys_and_none(terminals: Terminals) -> None:
    for options, passed, keys in ((("-k", "ctrl-p,ctrl-q"), KEYS, "\x10\x11"), (("-k", "none"), KEYS, "")):
        child = terminals.screen(*options)
        child.expect_exact("painted at 24\r\n")
        child.send(passed)
        child.expect_exact("[1c04]")
        if keys:
            child.send(keys)
            child.expect_exact("detached\r\n")
            ends(child, 0)


FLOOD = "import itertools\nfor n in itertools.count(): print(n, 'x' * 90, flush=n % 100 == 0)"


@pytest.mark.parametrize("relayed", [{"STALLED_S": 10 * T}], indirect=True)
def test_a_stopped_client_stops_nobody_and_gets_the_screen_again(terminals: Terminals) -> None:
    going = terminals("s", sys.executable, "-c", FLOOD)
    going.expect(r"\d+ x+\r\n")
    stopped = terminals("s")
    stopped.expect(r"\d+ x+\r\n")
    os.kill(stopped.pid, signal.SIGSTOP)
    for _ in range(20):  # 2 MB, eight times what is kept
        last = int(_after(going, 1000))
    os.kill(stopped.pid, signal.SIGCONT)
    stopped.expect(rb"\x18\x1b\\")  # whatever it was in the middle of
    assert int(_after(stopped, 10)) > last - 5000


def _after(child: Any, lines: int) -> bytes:
    """The number of a line some lines on."""
    child.expect(r"(\d+) x+\r\n")
    end = int(child.match.group(1)) + lines
    while int(child.match.group(1)) < end:
        child.expect(r"\r\n(\d+) x+\r\n")
    return bytes(child.match.group(1))


def test_a_program_without_anybody_who_reads_goes_on(terminals: Terminals, tmp_path: Path, harness: Any) -> None:
    done = tmp_path / "done"
    script = "import os, sys\nprint('line of text\\n' * 300_000, flush=True)\nos.mkdir(sys.argv[1])\ninput()"
    child = terminals("s", sys.executable, "-c", script, str(done))
    child.expect_exact("line of text\r\n")
    os.kill(child.pid, signal.SIGSTOP)
    asyncio.run(harness.wait_until(done.exists))
    os.kill(child.pid, signal.SIGCONT)
    child.sendline("")
    ends(child, 0)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM, None])
def test_a_lost_terminal_ends_nothing(terminals: Terminals, harness: Any, how: signal.Signals | None) -> None:
    first = terminals("s", "sh", "-c", SIZES)
    first.expect(r"up (\d+)\r\n")
    pid = int(first.match.group(1))
    if how is None:
        first.close(force=False)  # the terminal is gone
    else:
        first.kill(how)
    asyncio.run(harness.wait_until(lambda: terminals.running()["s"]["viewers"] == 0))
    assert harness.is_alive(pid)
    second = terminals("s")
    second.expect_exact(f"up {pid}\r\n")
    second.sendline("there")
    second.expect_exact("got there\r\n")


def test_a_client_that_was_stopped_has_its_terminal_again(terminals: Terminals) -> None:
    child = terminals.screen()
    child.expect_exact("painted at 24\r\n")
    os.kill(child.pid, signal.SIGSTOP)
    child.setecho(True)  # as a shell that has the terminal meanwhile
    os.kill(child.pid, signal.SIGCONT)
    child.expect_exact("painted at 24\r\n")
    child.send("x")
    child.expect_exact("[78]\r\n")
    assert b"x" not in child.before


def test_sessions_end_with_guestd(harness: Any) -> None:
    """What runs in them is not left behind; one that is new knows none of them."""

    async def scenario() -> int:
        async with harness.start_guestd() as guestd:
            async with guestd.channel.open(
                "session", name="s", argv=["sh", "-c", "trap '' HUP; echo $$; exec sleep 1000"]
            ) as stream:
                pid = int((await stream.receive())[1])
            assert (await guestd.channel.call("sessions", timeout_s=T))["running"]["s"]["viewers"] == 0
            assert harness.is_alive(pid)
        return pid

    pid = asyncio.run(scenario())
    asyncio.run(harness.wait_until(lambda: not harness.is_alive(pid)))


def test_the_program_waits_for_its_only_viewer(harness: Any) -> None:
    """So that a long output arrives whole, however slowly it is read."""

    async def scenario() -> int:
        async with harness.start_guestd(STALLED_S=10 * T) as guestd:
            argv = [sys.executable, "-c", "print('line of text\\n' * 100_000, end='')"]
            async with guestd.channel.open("session", name="s", argv=argv) as stream:
                for _ in range(100):  # time in which it could print all of it
                    await guestd.channel.run(["true"], user=os.geteuid(), timeout_s=T)
                return b"".join([data async for _, data in stream]).count(b"line of text\r\n")

    assert asyncio.run(scenario()) == 100_000


def test_who_only_looks_types_nothing_whatever_the_client_sends(harness: Any) -> None:
    async def scenario() -> bytes:
        async with harness.start_guestd() as guestd:
            open_one, seen = guestd.channel.open, b""
            argv = ["sh", "-c", "stty -echo; echo up; exec cat"]
            async with open_one("session", name="s", argv=argv) as one:
                while b"up" not in seen:
                    seen += (await one.receive())[1]
                async with open_one("session", name="s", read_only=True) as looking:
                    await looking.send(b"lost\n")
                    await guestd.channel.call("ping", timeout_s=T)
                    await one.send(b"kept\n")
                    while b"kept" not in seen:
                        seen += (await one.receive())[1]
        return seen

    assert b"lost" not in asyncio.run(scenario())


NEW = ["-f", "/dev/null", "new-session", "-n"]
SIZE = (60, 200)


@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux here")
def test_tmux_inside_and_outside(terminals: Terminals) -> None:
    """A tmux as the program, and a client that runs in a window of another one."""
    inner, outer = ["tmux", "-L", f"in{os.getpid()}"], ["tmux", "-L", f"out{os.getpid()}"]
    environment = {**os.environ, "TERM": "xterm-256color"}
    words = [sys.executable, str(CLIENT), str(terminals.control), "s", *inner, *NEW, "inside", "cat"]
    screen = pexpect.spawn(outer[0], [*outer[1:], *NEW, "outside", *words], timeout=T, dimensions=SIZE, env=environment)
    try:
        screen.expect_exact("0:inside*")
        screen.send("marked\r")
        screen.expect_exact("marked")
        screen.send(KEYS)
        screen.expect_exact("[exited]")
        plain = terminals("s", size=(24, 80))
        plain.expect_exact("marked")
        plain.expect_exact("0:inside*")
        plain.send("again\r")
        plain.expect_exact("again")
        detach(plain)
    finally:
        screen.close(force=True)
        for tmux in (inner, outer):
            pexpect.run(" ".join([*tmux, "kill-server"]))
