"""Nothing outlives its owner, whatever ends the owner; and what was made before is used again."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from world import World, wait_until

FILE = "name: lives\nmounts: [.:/workspace]\n"


def test_killing_the_supervisor_ends_everything(world: World) -> None:
    project = world.project(FILE)
    world.up(project)
    pid = world.listed(project)[0]["pid"]
    assert any("qemu" in command for command in world.processes().values())
    os.kill(pid, signal.SIGKILL)
    wait_until(world.processes, lambda found: not found, "processes outlive their supervisor", timeout_s=2)
    row = world.listed(project)[0]
    assert row["status"] == "dead" and "supervisor was killed" in row["message"]
    gone = world.sandbox("exec", "--", "true", cwd=project)
    assert gone.code == 1 and "not running" in gone.err
    world.sandbox("down", cwd=project).ok()
    assert world.listed(project) == []
    world.up(project)
    world.run(project, "true").ok()


def test_killing_qemu_is_told(world: World) -> None:
    project = world.project(FILE)
    world.up(project)
    qemu = next(
        pid for pid, command in world.processes().items() if "qemu-system" in command and "leash" not in command
    )
    os.kill(qemu, signal.SIGKILL)
    wait_until(lambda: world.listed(project)[0]["status"], lambda status: status == "failed", "the sandbox still runs")
    wait_until(world.processes, lambda found: not found, "processes outlive the machine")
    world.up(project)
    world.run(project, "true").ok()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("phase", ["[setup[0]] working", "restoring", "mounting"])
def test_interrupting_up_leaves_nothing_and_the_next_one_goes_on(
    world: World, phase: str, number: signal.Signals
) -> None:
    # A step of its own for each case, so that it is built here and not found in the cache.
    step = f"echo working {phase!r} {number} {os.urandom(8).hex()}; sleep 2"
    project = world.project(f"{FILE}setup:\n  - {step!r}\n" if "setup" in phase else FILE)
    if "setup" not in phase:
        world.up(project)
        world.sandbox("down", cwd=project).ok()
    process = world.start("up", "-d", "--yes", "--progress", "plain", cwd=project)
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line.decode())
        if phase in seen[-1]:
            break
    else:
        pytest.fail(f"{phase!r} never came: {seen}")
    process.send_signal(number)
    rest = process.communicate(timeout=60)[0]
    assert process.returncode in (130, -number, 1, 143), rest.decode()[-4000:]
    wait_until(world.processes, lambda found: not found, f"processes are left after {number.name}")
    for row in world.listed(project):
        assert row["status"] in ("dead", "failed"), row
    world.up(project)
    world.run(project, "true").ok()


def test_two_ups_at_once_build_once(world: World) -> None:
    step = f"echo {os.urandom(8).hex()}; sleep 1"
    project = world.project(f"name: pair\nmounts: [.:/workspace]\nsetup:\n  - {step!r}\n")
    both = [
        world.start("up", "-d", "--yes", "--progress", "plain", "--name", name, cwd=project)
        for name in ("left", "right")
    ]
    said = [process.communicate(timeout=1800)[0].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("is being built by process" in text for text in said) == 1, said


def test_one_name_twice_at_once_is_refused(world: World) -> None:
    project = world.project(f"name: single\nmounts: [.:/workspace]\nsetup: ['echo {os.urandom(8).hex()}; sleep 3']\n")
    first = world.start("up", "-d", "--yes", "--progress", "plain", cwd=project)
    assert first.stdout is not None
    first.stdout.readline()
    second = world.sandbox("up", "-d", "--yes", cwd=project)
    assert second.code == 1 and "another command is bringing single up or down" in second.err
    assert first.wait(1800) == 0


def test_a_failing_setup_step_shows_its_output_and_keeps_its_parent(world: World) -> None:
    mark = os.urandom(8).hex()
    project = world.project(
        f"name: steps\nmounts: [.:/workspace]\nsetup:\n  - 'echo first {mark}'\n  - 'echo broken {mark} >&2; exit 9'\n"
    )
    ran = world.sandbox("up", "-d", "--yes", "--progress", "plain", cwd=project, timeout_s=1800)
    assert ran.code == 1
    assert f"broken {mark}" in ran.err and "failed with code 9" in ran.err and "--shell-on-failure" in ran.err
    assert world.listed(project) == []
    shell = world.sandbox(
        "up", "-d", "--yes", "--shell-on-failure", cwd=project, timeout_s=1800, stdin="echo in-the-shell $((40+2))\n"
    )
    assert shell.code == 1 and "in-the-shell 42" in shell.out
    plan = world.sandbox("plan", cwd=project).ok().out
    assert "cached since" in next(line for line in plan.splitlines() if f"first {mark}" in line)
    assert "build" in next(line for line in plan.splitlines() if f"broken {mark}" in line)


def test_a_reader_that_goes_away_ends_the_command(world: World) -> None:
    project = world.project(FILE)
    world.up(project)
    process = world.start("exec", "--", "sh", "-c", "while :; do echo y; done", cwd=project)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    process.wait(60)
    wait_until(
        lambda: world.run(project, "pgrep -fc '[e]cho y' || true").out.strip(),
        lambda count: count == "0",
        "it still runs",
    )
    assert isinstance(process, subprocess.Popen)
