"""A sandbox that is switched off and boots its own disk again: what was on it is there, what ran runs again."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from pathlib import Path

from world import World, wait_until

from engine.resolve.host_ports import pick_port

WHO = "cat /etc/machine-id; hostname; cat /etc/sandbox/hosts.d/endpoints"
REFUSED = "curl -s -m 60 -o /dev/null -w '%{http_code}' http://denied.example/"
FILE = """
name: sleeper
mounts: [".:/workspace"]
endpoints: [{{host: allowed.example, port: 81}}]
services:
  web:
    image: localhost/debian:13
    command: ["bash", "-c", "while sleep 1; do date > /workspace/beat; done"]
    volumes: ["/workspace:/workspace"]
    healthcheck: {{test: ["CMD", "test", "-e", "/workspace/beat"], interval: 1s}}
  data:
    image: localhost/debian:13
    command: ["sleep", "infinity"]
    init: true
    volumes: ["store:/store"]
volumes: {{store: {{}}}}
ports: ["{port}:8105"]
"""
DATA = "docker compose -f /compose.yaml exec -T data"
SERVE = "cd /workspace && nohup python3 -m http.server 8105 >/dev/null 2>&1 &"


def answer(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/word", timeout=20) as found:
            return str(found.read().decode())
    except OSError:
        return ""


def test_a_stopped_sandbox_starts_from_its_disk(world: World) -> None:
    port = pick_port()
    project = world.project(FILE.format(port=port), {"word": "from the host"})
    world.up(project)
    world.run(
        project, "echo mine > ~/kept; docker compose -f /compose.yaml exec -T data sh -c 'echo v > /store/v'"
    ).ok()
    who = world.run(project, WHO).ok().out
    world.sandbox("deny", "allowed.example", cwd=project).ok()

    said = json.loads(world.sandbox("stop", "--json", cwd=project).ok().out)
    assert said["status"] == "stopped" and said["forced"] is None, said
    assert world.processes() == {}, "a stopped sandbox has no process"
    directory = Path(os.environ["SANDBOX_STATE_DIR"]) / "instances/sleeper"
    assert not list(directory.rglob("ram")), "no memory is kept"
    assert [row["status"] for row in world.listed(project)] == ["stopped"]
    ran = world.sandbox("exec", "--", "true", cwd=project)
    assert ran.code == 1 and "`sandbox start sleeper` starts it" in ran.err
    again = world.sandbox("stop", cwd=project)
    assert again.code == 1 and "is stopped already" in again.err
    unapproved = world.sandbox("start", cwd=project)
    assert unapproved.code == 2 and "nobody is here to approve that" in unapproved.err, "the checks of `up`"

    (project / "beat").unlink()
    world.sandbox("start", "--yes", cwd=project, timeout_s=900).ok()
    assert world.run(project, WHO).ok().out == who, "it is who it was"
    assert world.run(project, "cat ~/kept").ok().out == "mine\n"
    assert world.run(project, f"{DATA} cat /store/v").ok().out == "v\n"
    row = world.listed(project)[0]
    assert row["status"] == "running" and row["services"]["web"]["health"] == "healthy"
    assert (project / "beat").exists(), "the live mount is back, and the service in it"
    assert [one["name"] for one in row["temporary"]] == ["allowed.example"], "what was denied for now is denied"
    assert world.run(project, REFUSED).ok().out == "403"
    world.run(project, SERVE).ok()
    assert wait_until(lambda: answer(port), bool, "its port is not there", timeout_s=240) == "from the host"

    _survives_kills(world, project)
    world.sandbox("down", "--yes", cwd=project).ok()
    assert not directory.exists()


def _survives_kills(world: World, project: Path) -> None:
    """Whoever is killed on the way: it is stopped, nothing runs, and its disk is there."""
    kept = Path(os.environ["SANDBOX_STATE_DIR"]) / "instances/sleeper/stopped"
    stopping = world.start("stop", cwd=project)
    wait_until(kept.exists, bool, "it does not begin")
    os.kill(world.listed(project)[0]["pid"], signal.SIGKILL)
    stopping.wait()
    wait_until(world.processes, lambda found: not found, "processes are left")
    assert [row["status"] for row in world.listed(project)] == ["stopped"]

    starting = world.start("start", "--yes", cwd=project)
    wait_until(
        lambda: [row["status"] for row in world.listed(project)], lambda found: found == ["starting"], "no start"
    )
    starting.send_signal(signal.SIGKILL)
    starting.wait()
    wait_until(world.processes, lambda found: not found, "processes are left")
    assert [row["status"] for row in world.listed(project)] == ["stopped"]
    up = world.sandbox("up", "-d", "--yes", cwd=project, timeout_s=900).ok()
    assert "sleeper is stopped: starting it from its disk" in up.err
    assert world.run(project, "cat ~/kept").ok().out == "mine\n"
