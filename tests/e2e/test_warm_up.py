"""An `up` of what was started before: nothing is read again, and nothing that has changed is missed."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from world import Ran, World, wait_until

from engine.resolve.host_ports import pick_port

LOOKED = "looking whether anything has changed"
FILE = """
name: warm
agent: {command: ["true"], env: {WORD: first}}
mounts: [./shared:/shared]
ports: ["HOST_PORT:8000"]
"""


@pytest.fixture
def port() -> int:
    return pick_port()


@pytest.fixture
def project(world: World, port: int) -> Path:
    """A project whose sandbox was started before."""
    found = world.project(FILE.replace("HOST_PORT", str(port)))
    (found / "shared").mkdir()
    for _ in range(2):  # what was made or changed a moment ago is not trusted, so the first start may not be kept
        up(world, found)
        down(world, found)
    return found


def up(world: World, project: Path, **env: str) -> Ran:
    return world.sandbox("up", "-d", "--yes", "--timings", cwd=project, timeout_s=1800, **env).ok()


def down(world: World, project: Path) -> None:
    world.sandbox("down", cwd=project).ok()


def identity(world: World, project: Path) -> tuple[str, ...]:
    script = "cat /etc/machine-id; head -c 16 /dev/urandom | od -An -tx1; date +%s; cat /shared/here"
    return tuple(world.run(project, script).ok().out.splitlines())


def test_a_warm_start_is_a_whole_one_and_each_is_another_machine(world: World, project: Path, port: int) -> None:
    (project / "shared/here").write_text("seen\n")
    seen = []
    for _ in range(2):
        ran = up(world, project)
        assert LOOKED in ran.err, ran.err
        assert "warm is up after" in ran.out and f"127.0.0.1:{port} -> 8000" in ran.out
        seen.append(identity(world, project))
        assert world.run(project, "test -e /tmp/only-here").code == 1, "the machine before had this file"
        world.run(project, "echo made > /shared/made && touch /tmp/only-here").ok()
        assert (project / "shared/made").read_text() == "made\n"
        refused = world.run(project, "curl -sS --max-time 20 https://example.com/")
        assert refused.code != 0
        (record,) = world.listed(project)
        assert record["status"] == "running" and record["ports"]
        again = world.sandbox("up", "-d", "--yes", cwd=project).ok()
        assert "already running, unchanged" in again.out
        down(world, project)
    (first_id, first_random, *_), (second_id, second_random, *_) = seen
    assert first_id != second_id and first_random != second_random
    assert all(each[-1] == "seen" for each in seen)


def test_what_has_changed_is_read(world: World, project: Path) -> None:
    file = project / "Sandboxfile.yaml"
    file.write_text(file.read_text().replace("./shared:/shared", "./shared:/shared:ro"))
    ran = up(world, project)
    assert LOOKED not in ran.err
    assert world.run(project, "touch /shared/no").code != 0
    down(world, project)
    assert LOOKED in up(world, project).err, "the new one is known now"
    assert world.run(project, "touch /shared/no").code != 0
    down(world, project)

    local = project / "Sandboxfile.local.yaml"
    local.write_text("mounts: [./shared:/shared]\n")
    for _ in range(2):  # nobody has named that file, so it is looked at each time
        assert LOOKED not in up(world, project).err
        world.run(project, "touch /shared/yes").ok()
        down(world, project)


def test_another_surrounding_is_read(world: World, project: Path) -> None:
    assert LOOKED not in up(world, project, SANDBOX_CARRIER="user").err
    down(world, project)


def test_a_start_that_fails_leaves_nothing_and_says_why(world: World, project: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        ran = world.sandbox("up", "-d", "--yes", cwd=project)
    assert ran.code != 0 and str(port) in ran.err
    assert world.listed(project) == [] and not world.processes()
    assert LOOKED not in up(world, project).err, "what has failed is looked at anew"
    down(world, project)
    assert LOOKED in up(world, project).err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_warm_start_leaves_nothing(world: World, project: Path, number: signal.Signals) -> None:
    record = Path(os.environ["SANDBOX_STATE_DIR"]) / "instances/warm/instance.json"
    process = world.start("up", "-d", "--yes", cwd=project)
    wait_until(record.exists, bool, "the start has not begun")
    process.send_signal(number)
    code = process.wait(60)
    wait_until(world.processes, lambda found: not found, "processes are left")
    if number != signal.SIGKILL:
        assert code in (130, 128 + number)
        assert not record.exists()
    up(world, project)
