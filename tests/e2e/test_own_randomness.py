"""Machines that begin where a running one is: no program goes on before its machine has randomness and a clock of its
own."""

from __future__ import annotations

import json
import time
from pathlib import Path

from world import World, wait_until

# It draws from the kernel's pool all the time, also when the snapshot is made: a line for each number, with both times.
FILE = """
name: drawing
setup:
  - user: root
    run: |
      cat > /opt/draw.py <<'END'
      import os, time
      with open("/var/tmp/drawn", "w", buffering=1) as file:
          while True:
              file.write(f"{time.monotonic_ns()} {time.time_ns()} {os.getrandom(16).hex()}\\n")
              time.sleep(0.01)
      END
      systemd-run --quiet --unit=draw python3 /opt/draw.py
"""
KILL = "systemctl kill --kill-whom=main sandbox-guestd"
SECOND = 10**9


def drawn(world: World, project: Path, name: str) -> list[tuple[int, int, str]]:
    lines = [line.split() for line in world.on(project, name, "cat /var/tmp/drawn").splitlines()]
    return [(int(words[0]), int(words[1]), words[2]) for words in lines if len(words) == 3]


def own(world: World, project: Path, names: tuple[str, str]) -> list[list[tuple[int, int, str]]]:
    """What each has drawn since they parted; they have drawn nothing twice since then."""
    both = [drawn(world, project, name) for name in names]
    common = {*both[0]} & {*both[1]}
    assert common, "the control: it drew before they parted"
    rest = [[line for line in lines if line not in common] for lines in both]
    assert all(rest), "the control: it draws in both"
    twice = {line[2] for line in rest[0]} & {line[2] for line in rest[1]}
    last = max(line[0] for line in common)
    late = [f"{(line[0] - last) / 1e6:.0f} ms" for line in rest[0] if line[2] in twice]
    assert not twice, f"both drew {len(twice)} numbers, {', '.join(late)} after the last common one"
    return rest


def test_no_program_draws_what_another_machine_draws(world: World) -> None:
    project = world.project(FILE)
    world.up(project)
    sleeper = world.on(project, "drawing", "nohup sleep 3600 >/dev/null 2>&1 & echo $!").strip()
    began = time.time_ns()
    world.sandbox("snapshot", "kept", cwd=project).ok()
    said = json.loads(world.sandbox("fork", "--json", cwd=project).ok().out)
    assert said["notes"] == [], "all programs stood still"
    pair = ("drawing", said["clones"][0]["name"])
    of_first, of_second = own(world, project, pair)
    assert of_second[0][1] > began - SECOND, "its clock is right from the first moment on"
    status = world.on(project, pair[0], "systemctl is-active draw.service docker.service; cat /run/sandbox/frozen || :")
    assert status.split() == ["active", "active"], "all goes on in both"
    assert of_first[-1][0] > of_first[0][0]
    # What was started by guestd is in another group since then, and outlives it as before.
    for name in pair:
        world.sandbox("exec", "-n", name, "-u", "root", "--", "sh", "-c", KILL, cwd=project)
        alive = ("exec", "-n", name, "--", "cat", f"/proc/{sleeper}/comm")
        wait_until(lambda alive=alive: world.sandbox(*alive, cwd=project).out, lambda out: out == "sleep\n", name)
    began = time.time_ns()
    world.up(project, "--from", "kept", "--name", "later")
    assert own(world, project, ("drawing", "later"))[1][0][1] > began - SECOND
    world.sandbox("down", "later", cwd=project).ok()
    world.sandbox("snapshot", "--rm", "kept", cwd=project).ok()
