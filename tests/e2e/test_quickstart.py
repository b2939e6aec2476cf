"""The main job, on the example that the README starts with."""

from __future__ import annotations

import json
import os
import shutil
import urllib.request
from pathlib import Path

from world import World

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "quickstart"


def test_up_agent_services_ports_and_down(world: World) -> None:
    project = world.base / "quickstart"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("RESULT.md"))

    up = world.up(project)
    assert "quickstart is up after" in up.out
    assert "redis: healthy" in up.out and "web: healthy" in up.out
    assert "127.0.0.1:8080 -> 8080" in up.out

    kernel = world.run(project, "uname -r").ok().out.strip()
    assert kernel != os.uname().release and "cloud" in kernel
    assert world.run(project, "docker info --format '{{.ServerVersion}}'").ok().out.strip()
    shown = world.run(project, "docker compose ps --format '{{.Service}} {{.Health}}'").ok().out.split()
    assert sorted(zip(shown[::2], shown[1::2], strict=True)) == [("redis", "healthy"), ("web", "healthy")]

    with urllib.request.urlopen("http://127.0.0.1:8080/", timeout=30) as answer:
        assert json.load(answer)["service"] == "web"

    world.run(project, "./agent.sh").ok()
    result = project / "workspace" / "RESULT.md"
    assert kernel in result.read_text()
    assert result.stat().st_uid == (project / "workspace").stat().st_uid

    again = world.sandbox("up", "-d", cwd=project).ok()
    assert "quickstart is already running, unchanged" in again.out

    logs = world.sandbox("logs", "web", cwd=project).ok()
    assert "GET / HTTP/1.1" in logs.out

    assert "quickstart is down" in world.sandbox("down", cwd=project).ok().out
    assert world.listed(project) == []
    assert not (Path(os.environ["SANDBOX_STATE_DIR"]) / "instances" / "quickstart").exists()


def test_the_agent_runs_in_the_foreground_and_its_code_is_ours(world: World) -> None:
    project = world.project(
        """
        name: foreground
        agent: {command: [sh, -c, "read line; echo got $line $GREETING > said; exit 7"], env: {GREETING: hello}}
        mounts: [.:/workspace]
        """
    )
    ran = world.sandbox("up", "--yes", "--progress", "plain", cwd=project, timeout_s=1800, stdin="word\n")
    assert ran.code == 7, ran.err
    assert (project / "said").read_text() == "got word hello\n"
    assert [item["status"] for item in world.listed(project)] == ["running"]


def test_several_sandboxes_of_one_file(world: World) -> None:
    project = world.project("name: twin\nmounts: [.:/workspace]\n")
    world.up(project, "--name", "one")
    world.up(project, "--name", "two")
    assert {item["name"] for item in world.listed(project)} == {"one", "two"}
    machines = {
        world.sandbox("exec", name, "--", "cat", "/etc/machine-id", cwd=project).ok().out for name in ("one", "two")
    }
    assert len(machines) == 2
    named = world.sandbox("exec", "--", "true", cwd=project)
    assert named.code == 1 and "several sandboxes" in named.err
    world.sandbox("down", "one", cwd=project).ok()
    assert world.sandbox("exec", "--", "hostname", cwd=project).ok().out == "two\n"
