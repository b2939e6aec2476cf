"""Restarting a service in its machine, and what the machine says that it uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from world import World

FILE = """
    name: words
    mounts: [.:/workspace]
    machine: {cpus: 1, memory: 1GiB}
    services:
      web:
        image: localhost/debian:13
        command: [sh, -c, "echo began >> /log; sleep 1; touch /ready; exec sleep infinity"]
        healthcheck: {test: [CMD, test, -e, /ready], interval: 1s, retries: 60}
"""


def measured(world: World, project: Path) -> dict[str, Any]:
    [row] = [
        row for row in json.loads(world.sandbox("stats", "--json", cwd=project).ok().out) if row["name"] == "words"
    ]
    assert row["problem"] is None, row
    return dict(row)


def test_restart_and_stats(world: World) -> None:
    project = world.project(FILE)
    world.up(project)
    log = ["exec", "--", "docker", "compose", "-f", "/compose.yaml", "exec", "web", "cat", "/log"]
    world.sandbox("restart", "web", cwd=project).ok()
    assert world.sandbox(*log, cwd=project).ok().out == "began\nbegan\n", "the same container, started twice"

    before = measured(world, project)
    assert before["processors"] == 1 and 0 < before["memory_used"] < before["memory"] <= 2**30
    assert 0 < before["disk_used"] < before["disk"]
    busy = "(while :; do :; done) & head -c 200M /dev/urandom > /var/tmp/big; sync"
    world.sandbox("exec", "--", "sh", "-c", f"{busy} >/dev/null 2>&1", cwd=project).ok()
    after = measured(world, project)
    assert after["disk_used"] - before["disk_used"] > 150 * 2**20
    world.sandbox("exec", "-u", "root", "--", "sh", "-c", "curl -m 5 -s https://example.com", cwd=project)
    assert measured(world, project)["sent"] > before["sent"]
    assert "words" in world.sandbox("stats", cwd=project).ok().out
    ran = world.sandbox("restart", "words", cwd=project)
    assert ran.code == 2 and "`sandbox down words`" in ran.err
