"""`machine.idle`: a sandbox that nobody uses ends by itself."""

from __future__ import annotations

import json

from world import World, wait_until


def test_a_sandbox_that_nobody_uses_is_stopped(world: World) -> None:
    project = world.project("name: idler\nmachine: {idle: 1m}\n")
    world.up(project)
    assert json.loads(world.sandbox("ls", "--json", cwd=project).ok().out)[0]["status"] == "running"

    def status() -> str:
        return str(world.listed(project)[0]["message"])

    wait_until(status, lambda text: text == "stopped: nobody used it for 1m", "it runs on", timeout_s=300)
    wait_until(world.processes, lambda found: not found, "processes are left")
    ran = world.sandbox("exec", "--", "true", cwd=project)
    assert ran.code == 1 and "is not running (stopped: nobody used it for 1m)" in ran.err
    world.up(project)
    assert world.run(project, "echo again").ok().out == "again\n"
