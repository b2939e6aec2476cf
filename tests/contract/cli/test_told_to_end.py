"""Every command that waits for something ends when it is told to, whatever the guest does: nothing, in these tests."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator

import pexpect
import pytest
from cli_world import DEADLINE_S, CommandLine, FakeSandbox, start_fake

from engine.state.layout import Layout

WAITING = {
    "exec": ("exec", "-n", "mute", "--", "true"),
    "logs": ("logs", "-n", "mute", "-f"),
    "cp out": ("cp", "mute:/etc/hostname", "here"),
    "cp in": ("cp", "Sandboxfile.yaml", "mute:/tmp/"),
    "journal": ("journal", "-f", "mute"),
    "console": ("console", "-f", "mute"),
}


@pytest.fixture
def mute(sandbox: CommandLine, layout: Layout) -> Iterator[FakeSandbox]:
    """The sandbox `mute`, whose guest answers nothing."""
    sandbox.file('version: "1"\nname: mute\n')
    with start_fake(sandbox.forks, layout, sandbox.project, "mute", "--silent") as fake:
        for path in (layout.instance("mute").journal, layout.instance("mute").console_log):
            path.write_text("begun\n")
        yield fake


@contextlib.contextmanager
def waiting(sandbox: CommandLine, mute: FakeSandbox, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command, when it has asked its question or printed its first line."""
    argv = sandbox.argv(*WAITING[name])
    pipe = subprocess.PIPE
    with subprocess.Popen(
        argv, cwd=sandbox.project, env=sandbox.environment(), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
    ) as process:
        try:
            if name in ("journal", "console"):
                assert process.stdout is not None and process.stdout.readline() == b"begun\n"
            else:
                assert mute.process.stdout.readline() == b"asked\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("name", [name for name in WAITING if name != "exec"])
def test_one_term_ends_it(sandbox: CommandLine, mute: FakeSandbox, name: str) -> None:
    with waiting(sandbox, mute, name) as process:
        process.terminate()
        assert process.wait(DEADLINE_S) in (128 + signal.SIGTERM, -signal.SIGTERM)


@pytest.mark.parametrize("name", WAITING)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_insists_ends_it(sandbox: CommandLine, mute: FakeSandbox, name: str, number: signal.Signals) -> None:
    with waiting(sandbox, mute, name) as process:
        deadline = time.monotonic() + DEADLINE_S
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.3)
        assert process.returncode in (128 + number, -number)
        assert process.stderr is not None and b"Traceback" not in process.stderr.read()


@pytest.mark.usefixtures("mute")
def test_down_does_without_an_answer(sandbox: CommandLine) -> None:
    assert sandbox("down", "mute", changes={"engine.lifecycle.down.ASK_S": 0.1}).code == 0


def test_a_terminal_in_a_mute_guest(sandbox: CommandLine, mute: FakeSandbox) -> None:
    """The one who sits there can press ^C; after ten seconds he has his shell again, here after less."""
    program = (
        "import sys; from vmm.channel import patience; patience.SILENCE_S = 0.3; "
        "from engine.cli.main import main; main(sys.argv[1:])"
    )
    argv = [*sandbox.argv()[:1], "-c", program, "exec", "-n", "mute", "-it", "--", "bash"]
    child = pexpect.spawn(argv[0], argv[1:], cwd=str(sandbox.project), env=sandbox.environment(), timeout=DEADLINE_S)
    try:
        assert mute.process.stdout.readline() == b"asked\n"  # so the terminal is raw
        child.send("\x03")
        child.expect_exact("sandbox: the guest does not answer")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 130
    finally:
        child.close(force=True)
