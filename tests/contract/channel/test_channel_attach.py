"""`attach` in a process of its own, as `sandbox exec` runs it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pexpect
import pytest

from vmm.channel.greeting import Hello
from vmm.guest.guestd.wire import (
    CREDIT,
    DATA,
    EOF,
    HELLO_OK,
    MORE,
    OPEN,
    PROTOCOL,
    RESTARTED,
    RESULT,
    Decoder,
    encode_frame,
    encode_message,
)

T = 20
GREETING = json.dumps(vars(Hello("1", PROTOCOL, "", "", ""))).encode()

PROGRAM = """
import os, sys
from pathlib import Path
from vmm.channel import patience
from vmm.channel.attach import attach
patience.SILENCE_S = float(os.environ.get("SILENCE_S", patience.SILENCE_S))
flags, *argv = sys.argv[2:]
options = dict(tty="t" in flags, interactive="i" in flags, forward="n" not in flags)
sys.exit(attach(Path(sys.argv[1]), argv, user=os.geteuid(), **options))
"""


def command(control: Path, flags: str, *argv: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(control), flags, *argv]


@contextlib.contextmanager
def terminal(control: Path, flags: str, *argv: str) -> Iterator[Any]:
    child = pexpect.spawn(
        command(control, flags, *argv)[0], command(control, flags, *argv)[1:], timeout=T, dimensions=(30, 90)
    )
    try:
        yield child
    finally:
        child.close(force=True)


def test_terminal_size_resize_and_code(control: Path) -> None:
    text = "stty size; trap 'stty size; exit 7' WINCH; echo ready; while :; do read x; done"
    with terminal(control, "it", "sh", "-c", text) as child:
        child.expect_exact("30 90\r\n")
        child.expect_exact("ready\r\n")
        child.setwinsize(11, 22)
        child.expect_exact("11 22\r\n")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 7


def test_keys_go_to_the_guest_and_the_terminal_is_restored(control: Path) -> None:
    child = pexpect.spawn("sh", timeout=T, env={**os.environ, "PS1": "$ "})
    try:
        child.expect_exact("$ ")
        child.sendline("stty -a | cksum; echo before")
        child.expect(r"\n(\d+ \d+)\r\nbefore\r\n")
        before = child.match.group(1)
        script = Path(control).parent / "program"
        script.write_text(PROGRAM)
        child.sendline(f"{sys.executable} {script} {control} it sh -c 'echo up; exec cat'; echo code $?")
        child.expect_exact("up\r\n")
        child.send("abc\r")
        child.expect_exact("abc\r\nabc\r\n")  # the guest's terminal echoes, then cat answers
        child.send("\x03")  # a key, not a signal for us
        child.expect_exact("code 130\r\n")
        child.sendline("stty -a | cksum; echo after")
        child.expect(r"\n(\d+ \d+)\r\nafter\r\n")
        assert child.match.group(1) == before
    finally:
        child.close(force=True)


def test_a_terminal_is_restored_when_we_are_told_to_end(control: Path, harness: Any) -> None:
    with terminal(control, "it", "sh", "-c", "echo pid $$; exec sleep 1000") as child:
        child.expect(r"pid (\d+)\r\n")
        pid = int(child.match.group(1))
        child.kill(signal.SIGTERM)
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 128 + signal.SIGTERM
        asyncio.run(harness.wait_until(lambda: not harness.is_alive(pid)))


MODES = r"printf '\033[?1049h\033[?2004h\033[?25l'; echo pid $$; "


def test_what_a_program_did_to_the_terminal_is_undone_when_it_cannot(control: Path) -> None:
    with terminal(control, "it", "sh", "-c", MODES + "exec sleep 1000") as child:
        child.expect(r"pid (\d+)\r\n")
        child.kill(signal.SIGTERM)
        child.expect_exact("\x1b[?25h\x1b[?1049l\x1b[?2004l\x1b[0m")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 128 + signal.SIGTERM
    with terminal(control, "it", "sh", "-c", MODES + "echo end; exit 3") as child:  # by its own choice
        child.expect_exact("end\r\n")
        child.expect(pexpect.EOF)
        assert child.before == b""


def test_a_key_ends_a_session_whose_guest_does_not_answer(relayed: tuple[Path, int]) -> None:
    """In a raw terminal no signal reaches us: ^C is a key, and this guest does nothing about it."""
    path, guestd = relayed
    script = path.parent / "program"
    script.write_text(PROGRAM)
    child = pexpect.spawn("sh", timeout=T, env={**os.environ, "PS1": "$ ", "SILENCE_S": "0.3"})
    try:
        child.expect_exact("$ ")
        child.sendline("stty -a | cksum; echo before")
        child.expect(r"\n(\d+ \d+)\r\nbefore\r\n")
        before = child.match.group(1)
        child.sendline(f"""{sys.executable} {script} {path} it sh -c "{MODES} exec cat"; echo code $?""")
        child.expect(r"pid (\d+)\r\n")
        os.kill(guestd, signal.SIGSTOP)
        child.send("\x03")
        child.expect_exact("\x1b[?25h\x1b[?1049l\x1b[?2004l\x1b[0m")
        child.expect_exact("the guest does not answer")
        child.expect_exact("code 130\r\n")
        child.sendline("stty -a | cksum; echo after")
        child.expect(r"\n(\d+ \d+)\r\nafter\r\n")
        assert child.match.group(1) == before
    finally:
        child.close(force=True)


@contextlib.contextmanager
def silent_guest(relayed: tuple[Path, int], flags: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A command whose guestd has stopped for good."""
    path, guestd = relayed
    argv = command(path, flags, "sh", "-c", "echo ready; exec sleep 1000")
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **env}) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        os.kill(guestd, signal.SIGSTOP)
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_insists_gets_rid_of_a_silent_guest(relayed: tuple[Path, int], number: signal.Signals) -> None:
    with silent_guest(relayed, "-", SILENCE_S="1000") as process:
        deadline = time.monotonic() + T
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.3)
        # On a busy machine a third one comes while the process is on its way out, with no handler left.
        assert process.returncode in (128 + number, -number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_silent_guest_is_waited_for_once(relayed: tuple[Path, int], number: signal.Signals) -> None:
    with silent_guest(relayed, "-", SILENCE_S="0.2") as process:
        process.send_signal(number)
        assert process.stderr is not None and "the guest does not answer" in process.stderr.read()
        assert process.wait(T) == 128 + number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_who_only_looks_is_ended_at_once(relayed: tuple[Path, int], number: signal.Signals) -> None:
    with silent_guest(relayed, "n") as process:
        process.send_signal(number)
        assert process.wait(T) == 128 + number


def test_a_guest_that_answers_is_waited_for(control: Path) -> None:
    """It takes as long as it likes about a signal."""
    text = "trap 'sleep 1; echo at last; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    env = {**os.environ, "SILENCE_S": "0.4"}
    with subprocess.Popen(
        command(control, "-", "sh", "-c", text), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=T)[0] == "at last\n"
        assert process.returncode == 9


def test_streams_stay_separate_and_stdin_is_read_only_when_asked(control: Path) -> None:
    text = "cat; echo err >&2; exit 5"
    done = subprocess.run(command(control, "-", "sh", "-c", text), input=b"data", capture_output=True, timeout=T)
    assert (done.returncode, done.stdout, done.stderr) == (5, b"", b"err\n")
    done = subprocess.run(
        command(control, "i", "sh", "-c", text), input=b"data" * 200_000, capture_output=True, timeout=T
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, b"data" * 200_000, b"err\n")
    done = subprocess.run(command(control, "i", "sh", "-c", "exit 3"), stdin=subprocess.DEVNULL, timeout=T)
    assert done.returncode == 3


def test_a_file_can_be_standard_input(control: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(300_000))
    with file.open("rb") as stdin:
        done = subprocess.run(command(control, "i", "wc", "-c"), stdin=stdin, capture_output=True, timeout=T)
    assert done.stdout == b"300000\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_are_passed_on(control: Path, number: signal.Signals) -> None:
    text = f"trap 'kill $! 2>/dev/null; echo caught; exit 9' {number.name[3:]}; sleep 1000 & echo ready; wait"
    with subprocess.Popen(command(control, "-", "sh", "-c", text), stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(number)
            assert process.stdout.read() == b"caught\n"
            assert process.wait(T) == 9
        finally:
            process.kill()  # the block's end waits for it


def test_a_broken_pipe_on_our_side_ends_the_command(control: Path, harness: Any) -> None:
    text = "echo $$; exec yes"
    with subprocess.Popen(command(control, "-", "sh", "-c", text), stdout=subprocess.PIPE) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        process.stdout.close()
        assert process.wait(T) == 128 + signal.SIGPIPE
    asyncio.run(harness.wait_until(lambda: not harness.is_alive(pid)))


def test_killed_client_leaves_nothing_in_the_guest(control: Path, harness: Any) -> None:
    with subprocess.Popen(
        command(control, "-", "sh", "-c", "echo $$; exec sleep 1000"), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        process.kill()
    asyncio.run(harness.wait_until(lambda: not harness.is_alive(pid)))


def test_the_client_imports_nothing_heavy() -> None:
    probe = "import sys, vmm.channel.client; print(*sorted(m for m in sys.modules if '.' not in m))"
    modules = subprocess.run([sys.executable, "-c", probe], capture_output=True, timeout=T, check=True).stdout.split()
    assert not {b"pydantic", b"tarfile", b"http", b"rich", b"click", b"yaml", b"networkx", b"qemu", b"json.tool"} & set(
        modules
    )


def test_input_goes_on_while_nobody_reads_our_output(control: Path) -> None:
    # More than a pipe holds each way, less than what the channel takes: a writer that reads only afterwards.
    size = 250_000
    with subprocess.Popen(command(control, "i", "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(bytes(size))
        process.stdin.close()
        assert len(process.stdout.read()) == size
        assert process.wait(T) == 0


def test_a_signal_is_passed_on_while_nobody_reads_our_output(control: Path, harness: Any) -> None:
    text = "echo $$; exec yes"  # no trap: a shell that waits in `echo` for room would run it only once there is some
    # Our own end for writing tells when the pipe is full, however many bytes that is: it depends on how they were cut.
    reader, writer = os.pipe()
    with (
        subprocess.Popen(command(control, "-", "sh", "-c", text), stdout=writer) as process,
        os.fdopen(reader, "rb") as output,
        os.fdopen(writer, "wb") as end,
    ):
        pid = int(output.readline())
        asyncio.run(harness.wait_until(lambda: not _has_room(end)))
        process.send_signal(signal.SIGTERM)
        asyncio.run(harness.wait_until(lambda: not harness.is_alive(pid)))
        end.close()
        output.read()
        assert process.wait(T) == 128 + signal.SIGTERM


def _has_room(pipe: BinaryIO) -> bool:
    poll = select.poll()
    poll.register(pipe, select.POLLOUT)
    return bool(poll.poll(0))


def test_nobody_there(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path / "no.sock", "-", "true"), capture_output=True, text=True, timeout=T)
    assert "GuestError: the sandbox's supervisor does not answer" in done.stderr


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "the guest is gone"),
        (b"hello" * 10, "the guest sent garbage"),
        (encode_frame(0, RESTARTED), "guestd restarted"),
        (encode_frame(1, DATA, 1, b"x" * 65536) * 7, "the guest sent more than it was allowed to"),
        (encode_message(1, RESULT, b"[]"), "the guest's answer cannot be read: not a JSON object"),
        (encode_message(1, RESULT, b'{"ok": {}}'), "the guest reported no exit code"),
        (encode_message(1, RESULT, b'{"ok": {"code": 256}}'), "the guest reported no exit code"),
        (encode_message(1, RESULT, b'{"error": {"brief": "nothing doing"}}'), "nothing doing"),
        (encode_frame(1, RESULT, MORE, b"x" * 65536) * 129, "the guest's answer is too long"),
        (encode_message(1, RESULT, b'{"ok": {"code": true}}'), "the guest reported no exit code"),
        (encode_message(1, RESULT, b'{"ok": {"code": -1}}'), "the guest reported no exit code"),
        (encode_message(1, RESULT, b'{"ok": {"code": 1e999}}'), "the guest reported no exit code"),
        (encode_message(1, RESULT, b'{"ok": ' + b"[" * 100_000), "the guest's answer cannot be read"),
        (encode_message(1, RESULT, b'{"error": ' + b"[" * 800 + b"]" * 800 + b"}"), "something that is no error"),
        (encode_frame(1, RESULT, MORE, b"") * 100, "against the rules"),
        (encode_frame(1, DATA, 1, b"") * 100, "against the rules"),
        (encode_frame(1, DATA, 3, b"x"), "against the rules"),
        (encode_frame(1, CREDIT, 0, b"\0\0\0\1"), "against the rules"),
        (encode_frame(1, EOF, 0, b"x" * 65536), "against the rules"),
        (encode_frame(1, OPEN, 0, b"x" * 65536), "against the rules"),
        (encode_frame(1, 99, 0, b"x" * 65536), "against the rules"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_peer_that_misbehaves(tmp_path: Path, answer: bytes, said: str) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        # Its output is not read while we send: what it has passed on it gives credit for, and then it may be sent more.
        with subprocess.Popen(
            command(path, "-", "true"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            with listener.accept()[0] as peer:
                hello = Decoder().feed(peer.recv(1 << 16))[0]
                peer.sendall(encode_frame(0, HELLO_OK, 0, hello.payload + GREETING))
                assert Decoder().feed(peer.recv(1 << 16))[0].kind == OPEN
                with contextlib.suppress(ConnectionError):
                    peer.sendall(answer)
            assert said in process.communicate(timeout=T)[1]
            assert process.returncode == 1


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (b'{"protocol": 2, "version": "2", "boot_id": "", "kernel": "", "hostname": ""}', "speaks protocol 2"),
        (b"{}", "answered with nonsense"),
        (None, "the guest is gone"),
    ],
)
def test_a_peer_of_another_kind(tmp_path: Path, greeting: bytes | None, said: str) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with subprocess.Popen(command(path, "-", "true"), stderr=subprocess.PIPE, text=True) as process:
            with listener.accept()[0] as peer:
                hello = Decoder().feed(peer.recv(1 << 16))[0]
                if greeting is not None:
                    peer.sendall(encode_frame(0, HELLO_OK, 0, hello.payload + greeting))
            assert process.stderr and said in process.stderr.read()
            assert process.wait(T) == 1
