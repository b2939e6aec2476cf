"""The file server of a mount is killed: whoever touches the mount gets an error, and waits for nobody."""

from __future__ import annotations

import os
import signal

import pytest
from world import World, wait_until

pytestmark = pytest.mark.timeout(400)


def test_who_uses_a_mount_without_its_server_gets_an_error(world: World) -> None:
    project = world.project("name: loser\nmounts: [.:/workspace]\n", {"marker": "here\n"})
    world.up(project)
    server, _ = sorted(pid for pid, command in world.processes().items() if "vmm.fileserver" in command)
    os.kill(server, signal.SIGSTOP)
    asking = world.start("exec", "-w", "/", "--", "cat", "/workspace/marker", cwd=project)
    waits = ("exec", "-u", "root", "-w", "/", "--", "sh", "-c", "grep -qs request_wait_answer /proc/[0-9]*/wchan")
    wait_until(lambda: world.sandbox(*waits, cwd=project).code, lambda code: code == 0, "nobody has asked")
    os.kill(server, signal.SIGKILL)
    # What was asked before that has an answer from its stand-in: so the kernel lets the device go.
    said, _ = asking.communicate(timeout=60)
    assert asking.returncode and b"Transport endpoint is not connected" in said
    world.run(project, "while ls -d /sys/bus/virtio/drivers/virtiofs/virtio*; do :; done", "-w", "/").ok()
    read = world.run(project, "cat /workspace/marker", "-w", "/")
    assert read.code == 1 and "Transport endpoint is not connected" in read.err
    again = world.run(project, "cat /workspace/marker")
    assert again.code == 126 and "cannot enter /workspace" in again.err
    assert world.run(project, "echo lives", "-w", "/").ok().out == "lives\n"
    refused = world.sandbox("pause", cwd=project)
    assert refused.code == 1 and "error: /workspace has lost its file server" in refused.err
    assert "sandbox up --recreate" in refused.err
    told = world.up(project)
    assert "the file server of /workspace has ended" in told.out + told.err
    world.up(project, "--recreate")
    assert world.run(project, "cat /workspace/marker").ok().out == "here\n"
