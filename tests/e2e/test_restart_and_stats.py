"""Restarting a service in its machine, and what the machine says that it uses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from seen_process import family
from world import World

FILE = """
    name: words
    mounts: [.:/workspace]
    machine: {cpus: 1, memory: 1GiB, cpu_weight: 41}
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


def weights(world: World, project: Path) -> set[str]:
    """What the kernel has as the weight of each of its processes: that of a group, else a priority."""
    [sandbox] = world.listed(project)
    found = set()
    for pid in family(sandbox["pid"]):
        own = next((line[3:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line[:3] == "0::"), "")
        if "/sandbox-" in own:
            mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
            [place] = [words[4] for words in mounts if words[words.index("-") + 1] == "cgroup2"]
            found.add(f"group {Path(f'{place}{own}/cpu.weight').read_text().strip()}")
            continue
        threads = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
        found |= {f"nice {os.getpriority(os.PRIO_PROCESS, thread)}" for thread in threads}
    return found


def test_restart_and_stats(world: World) -> None:
    project = world.project(FILE)
    planned = json.loads(world.sandbox("plan", "--json", cwd=project).ok().out)["cpu_weight"]
    said = world.up(project).err
    assert planned["weight"] == 41 and (planned["warning"] or "") in said
    own = {"group": "group 41", "priority": "nice 4"}[planned["by"]]
    assert weights(world, project) == {own}
    file = project / "Sandboxfile.yaml"
    file.write_text(file.read_text().replace("41", "20"))
    world.up(project)
    assert weights(world, project) == {{"group": "group 20", "priority": "nice 7"}[planned["by"]]}
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
