"""The file server of a mount is killed: whoever touches the mount gets an error, and waits for nobody."""

from __future__ import annotations

import os
import signal

import pytest
from world import World

pytestmark = pytest.mark.timeout(400)


def test_who_uses_a_mount_without_its_server_gets_an_error(world: World) -> None:
    project = world.project("name: loser\nmounts: [.:/workspace]\n", {"marker": "here\n"})
    world.up(project)
    reading = world.start("exec", "--", "sh", "-c", "while cat /workspace/marker; do sleep 0.1; done", cwd=project)
    assert reading.stdout is not None and reading.stdout.readline() == b"here\n"
    (server,) = [pid for pid, command in world.processes().items() if "vmm.fileserver" in command]
    os.kill(server, signal.SIGKILL)
    out, _ = reading.communicate(timeout=120)
    assert b"cat: " in out, out
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
