"""What a hostile guest, root in it, can make grow or hang on the host: nothing for long.

One sandbox goes through all of it, and its guestd is replaced at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

from world import DEADLINE_S, UP_S, Ran, World, wait_until

HERE = Path(__file__).parent
MB = 1 << 20
# A `docker` of the guest's own that prints without end while the services that wait for the mount are started.
CHATTY = """\
#!/bin/sh
case "$*" in *" up -d"*) [ -e /workspace/go ] && timeout 8 yes "$(printf '%0500d' 0)";; esac
exec /usr/bin/docker "$@"
"""
REPLACE = """
cat > /run/hostile.py
systemd-run --unit hostile sh -c "sleep 1; systemctl stop sandbox-guestd; exec python3 /run/hostile.py"
"""
FILE = """
name: hostile
machine: {cpus: 2, memory: 2GiB, disk: 20GiB}
mounts: [.:/workspace]
setup:
  - run: sudo install -m 755 /workspace/chatty /usr/local/sbin/docker
    inputs: [chatty]
services:
  late: {image: localhost/debian:13, command: [sleep, "100000"], init: true, volumes: [.:/workspace]}
"""


class Hostile:
    """The sandbox and the process that owns it."""

    def __init__(self, world: World, project: Path) -> None:
        self.world, self.project = world, project
        self.directory = Path(os.environ["SANDBOX_STATE_DIR"]) / "instances" / "hostile"
        self.supervisor = int(json.loads((self.directory / "instance.json").read_text())["pid"])

    def memory(self) -> int:
        """The most that the supervisor ever had, in bytes."""
        lines = Path(f"/proc/{self.supervisor}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    def root(self, program: str, *command: str) -> Ran:
        """Run a command in the guest, as root, with a program of this directory as its input."""
        words = ["exec", "-i", "-u", "root", "-w", "/", "--", *command]
        return self.world.sandbox(*words, cwd=self.project, stdin=(HERE / program).read_text())

    def call(self, *argv: str) -> Ran:
        return self.world.sandbox(*argv, cwd=self.project, timeout_s=DEADLINE_S)


def standard_errors(world: World) -> dict[str, str]:
    """What the standard error of QEMU and of the file server is."""
    found = {}
    for pid, command in world.processes().items():
        for name in ("qemu-system", "vmm.fileserver"):
            if name in command:
                found[name] = str(Path(f"/proc/{pid}/fd/2").readlink())
    return found


def test_a_hostile_guest_makes_nothing_grow_and_nothing_hang(world: World) -> None:
    project = world.project(FILE, {"chatty": CHATTY, "go": ""})
    up = world.sandbox("up", "-d", "--yes", "--progress", "plain", cwd=project, timeout_s=UP_S)
    up.ok()
    hostile = Hostile(world, project)

    # Its services' output goes neither into the log nor into memory without end, and whoever asked was told.
    log = (hostile.directory / "supervisor.log").read_text()
    assert "0" * 500 not in log and len(log) < MB
    assert "0" * 100 in up.err
    assert hostile.memory() < 150 * MB

    # QEMU's complaints, of which the guest has as many as it likes, are in no file.
    errors = standard_errors(world)
    assert len(errors) == 2 and all(target.startswith("pipe:") for target in errors.values()), errors
    assert int(hostile.root("complaining_device.py", "python3", "-", "5").ok().out) > 100
    assert hostile.call("exec", "--", "true").code == 0

    before = hostile.memory()
    hostile.root("hostile_guestd.py", "sh", "-c", REPLACE).ok()
    # The new one takes the port; then even `true` is not answered.
    wait_until(lambda: is_silent(hostile), bool, "guestd answers")

    # Frames that credit does not count, for a client that stands still.
    for word in ("credit", "empty", "result", "data"):
        stopped = world.start("exec", "--", word, cwd=project)
        wait_until((project / f"asked-{word}").exists, bool, "nobody was asked")
        os.kill(stopped.pid, signal.SIGSTOP)
        (project / f"go-{word}").touch()
        # All of it has been sent when the next request is answered, which it is, and badly.
        shapes = hostile.call("cp", ":/shapes", "x")
        assert shapes.code == 1 and "the guest's answer lacks 'kind'" in shapes.err and "bug" not in shapes.err
        assert hostile.memory() < before + 64 * MB, word
        hostile.call("ls").ok()
        stopped.kill()
        stopped.wait(DEADLINE_S)

    # An archive without end.
    copied = hostile.call("cp", ":/d", "here")
    assert copied.code == 1 and "archive that cannot be read" in copied.err and "type 'S'" in copied.err

    # A guest that does not answer is left by whoever insists, and by whoever waits.
    assert ended_by(world, project, signal.SIGINT, 2) == 128 + signal.SIGINT
    assert ended_by(world, project, signal.SIGTERM, 1) == 128 + signal.SIGTERM
    assert hostile.call("down").code == 0


def is_silent(hostile: Hostile) -> bool:
    try:
        hostile.world.sandbox("exec", "--", "true", cwd=hostile.project, timeout_s=5)
    except subprocess.TimeoutExpired:
        return True
    return False


def ended_by(world: World, project: Path, number: signal.Signals, times: int) -> int:
    """The code of a command in the silent guest, after so many signals a second apart."""
    waiting = world.start("exec", "--", "true", cwd=project)
    wait_until(lambda: handles(waiting.pid, number), bool, "it does not handle the signal")
    for _ in range(times):
        waiting.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            waiting.wait(1)
    return waiting.wait(DEADLINE_S)


def handles(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal: `exec` has, once it is connected."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught & 1 << signal.SIGHUP - 1 and caught & 1 << number - 1)
