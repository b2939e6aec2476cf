"""A paused sandbox whose published port somebody connects to: it goes on and serves them, and nobody else listens."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

from held_processes import Host, complaints, kind_of
from seen_process import read_process
from world import World, wait_until

from engine.resolve.host_ports import pick_port

FILE = """
name: napper
machine: {{idle: {{after: 1m, do: pause}}}}
endpoints: [{{host: allowed.example, secret: key}}]
secrets: {{key: {{env: KEY}}}}
ports: ["{port}:8106"]
"""
SERVE = "mkdir -p /tmp/served; cd /tmp/served; echo here > word; nohup python3 -m http.server 8106 >/dev/null 2>&1 &"


def ask(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/word", timeout=240) as answer:
        return str(answer.read().decode().strip())


def answer(port: int) -> str:
    try:
        return ask(port)
    except OSError:
        return ""


def test_a_connection_wakes_it_and_is_served(world: World) -> None:
    port = pick_port()
    project = world.project(FILE.format(port=port))
    os.environ["KEY"] = "sk-only-in-the-environment-4712"
    try:
        world.up(project)
    finally:
        del os.environ["KEY"]  # whoever wakes it has no such variable
    world.run(project, SERVE).ok()
    wait_until(lambda: answer(port), lambda found: found == "here", "it does not serve")

    world.sandbox("pause", cwd=project).ok()
    ((pid, command),) = world.processes().items()
    assert "engine.supervisor.waker napper" in command, "one process is left, which listens"
    waker, host = kind_of(command), Host(read_process(os.getpid()).namespaces or {}, os.geteuid() == 0)
    assert waker is not None and list(complaints(read_process(pid), waker, host)) == []
    assert ask(port) == "here", "the first connection is served, and not lost"
    assert status(world, project) == "running"
    wait_until(lambda: wakers(world), lambda found: not found, "the waker is left")

    # Nobody uses it any more: it pauses by itself, and is woken as before.
    wait_until(lambda: status(world, project), lambda found: found == "paused", "it runs on", timeout_s=400)
    wait_until(lambda: len(world.processes()), lambda found: found == 1, "more than the waker is left")
    assert world.listed(project)[0]["message"] == "paused: nobody used it for 1m"
    assert ask(port) == "here"

    os.environ["KEY"] = "sk-only-in-the-environment-4712"
    try:
        world.sandbox("pause", cwd=project).ok()
        assert world.run(project, "echo awake").ok().out == "awake\n", "it is woken otherwise, too"
        assert ask(port) == "here"
    finally:
        del os.environ["KEY"]
    wait_until(lambda: wakers(world), lambda found: not found, "the waker is left")
    world.sandbox("pause", cwd=project).ok()
    world.sandbox("down", cwd=project).ok()
    wait_until(world.processes, lambda found: not found, "the waker is left")
    assert not Path(os.environ["SANDBOX_RUNTIME_DIR"], ".wake-napper").exists()


def status(world: World, project: Path) -> str:
    return str(world.listed(project)[0]["status"])


def wakers(world: World) -> list[str]:
    return [command for command in world.processes().values() if "engine.supervisor.waker" in command]
