"""A guest that may write in the project changes it at the moment when something of it is copied into a machine."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path

import pytest
from world import UP_S, World

DOCKERFILE = 'FROM localhost/debian:13\nCMD ["sleep", "1000000"]\n'
FLIP = "until [ -e /w/go ]; do sleep 0.1; done; mv /w/x /w/x.real; ln -s {victim} /w/x; touch /w/swapped; sleep 1000000"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A home directory with a key that is nowhere else."""
    victim = tmp_path / "victim"
    (victim / ".ssh").mkdir(parents=True)
    (victim / ".ssh/id_rsa").write_text(f"KEY-{uuid.uuid4().hex}")
    (victim / ".ssh/Dockerfile").write_text(DOCKERFILE)
    return victim


def entries_with(text: str) -> list[str]:
    """The files of the cache that hold this text: memories and disks of snapshots."""
    cache = os.environ["SANDBOX_CACHE_DIR"]
    found = subprocess.run(
        ["grep", "-rlaF", "--", text, *(f"{cache}/{kind}" for kind in ("setup", "images", "services"))],
        capture_output=True,
        text=True,
        timeout=UP_S,
    )
    return found.stdout.splitlines()


def test_a_live_change_takes_nothing_from_outside_the_project(world: World, victim: Path) -> None:
    """The guest hears of the moment from the command that makes room for the copy."""
    project = world.project(
        "name: swaps\nmounts: [.:/workspace]\nservices:\n  web: {build: ./x/.ssh}\n", {"x/.ssh/Dockerfile": DOCKERFILE}
    )
    world.up(project)
    hook = f"""cat > /usr/local/sbin/rm <<'G'
#!/bin/sh
case "$*" in *"/var/lib/sandbox/build/web"*) mv /workspace/x /workspace/x.real; ln -s {victim} /workspace/x;; esac
exec /usr/bin/rm "$@"
G
chmod 755 /usr/local/sbin/rm; echo "# changed" >> /workspace/x/.ssh/Dockerfile"""
    world.sandbox("exec", "-u", "root", "-w", "/", "--", "sh", "-c", hook, cwd=project).ok()
    ran = world.sandbox("up", "-d", "--yes", "--progress", "plain", cwd=project, timeout_s=UP_S)
    assert (project / "x").is_symlink(), "the guest has swapped"
    assert ran.code == 1 and "'x/.ssh' leads through the link 'x'" in ran.err
    key = (victim / ".ssh/id_rsa").read_text()
    look = world.run(project, f"sudo grep -rlF {key} /var/lib/sandbox /var/lib/docker/overlay2")
    assert (look.code, look.out) == (1, ""), "the key is in the guest"


def test_one_up_of_two_agents_takes_nothing_from_outside_the_project(world: World, victim: Path) -> None:
    """The first sandbox's guest swaps a parent of the context while the second one's machine is built."""
    project = world.project(
        f"""
        name: pair
        mounts: [.:/workspace]
        agents:
          a: {{command: sh}}
          b: {{command: sh, setup: ["sleep 20; echo {uuid.uuid4().hex}"]}}
        services:
          web: {{build: ./x/.ssh}}
          flip: {{image: "localhost/debian:13", volumes: [".:/w"], command: [sh, -c, "{FLIP.format(victim=victim)}"]}}
        """,
        {"x/.ssh/Dockerfile": DOCKERFILE},
    )
    up = world.start("up", "-d", "--yes", "--progress", "plain", cwd=project)
    assert up.stdout is not None
    said = []
    for line in up.stdout:
        said.append(line.decode())
        if said[-1].startswith("[setup[0]] sleep 20"):
            (project / "go").touch()
    text = "".join(said)
    assert up.wait(UP_S) == 2, text
    assert (project / "swapped").exists() and (project / "x").is_symlink(), text
    assert "'x/.ssh' leads through the link 'x'" in text
    assert [row["name"] for row in world.listed(project)] == ["pair-a"]
    assert entries_with((victim / ".ssh/id_rsa").read_text()) == []


def test_the_cache_holds_nothing_of_what_the_guest_changed_under_the_clean_key(world: World) -> None:
    """An input changes between the moment that it is looked at and the one that it is copied."""
    head = "name: poisons\nmounts: [.:/workspace]\n"
    clean, evil = f"clean {uuid.uuid4().hex}\n", f"EVIL {uuid.uuid4().hex}\n"
    project = world.project(head, {"req.txt": clean})
    world.up(project)
    # A step of this run alone: a store that knows it would restore it, and nothing would take any time.
    steps = f"setup:\n  - 'sleep 15; echo {uuid.uuid4().hex}'\n  - {{run: 'cp req.txt ~/made', inputs: [req.txt]}}\n"
    world.project(head + steps)
    up = world.start("up", "-d", "--yes", "--progress", "plain", cwd=project)
    assert up.stdout is not None
    said = []
    for line in up.stdout:
        said.append(line.decode())
        if said[-1].startswith("[setup[0]]") and (project / "req.txt").read_text() == clean:
            # The machine that is there until the new one is built, with the project live in it.
            world.run(project, f"printf '%s' '{evil}' > /workspace/req.txt").ok()
    text = "".join(said)
    assert up.wait(UP_S) == 0, text
    assert "req.txt changed while it was copied: building again with what is there now" in text
    made = world.run(project, "cat ~/made; cat /workspace/req.txt").ok().out
    assert made == evil * 2, "the machine is made of what is there"
    world.sandbox("down", cwd=project).ok()
    (project / "req.txt").write_text(clean)
    world.up(project)
    assert world.run(project, "cat ~/made").ok().out == clean, "the clean content's key is the clean machine's"


def test_what_is_copied_is_what_the_rules_leave_and_a_new_name_builds_anew(world: World) -> None:
    files = {
        "web/a": "a",
        "web/.env": "SECRET=1",
        "web/b": "b",
        "web/.dockerignore": "a\n",
        "docker/prod": "FROM localhost/debian:13\nCOPY . /all\nCOPY --from=more c /c\nCMD sleep 1000000\n",
        "docker/prod.dockerignore": "**/.env\n",
        "shared/c": "c",
        "shared/d": "d",
        "shared/.dockerignore": "d\n",
        "src/x/y.py": "",
        "src/z.txt": "",
        "n.txt": "",
    }
    file = """
        name: {name}
        setup: [{{run: "find . -type f | sort > ~/found", inputs: ["*.txt", "src/**/*.py", src/x, src/x]}}]
        services:
          web: {{build: {{context: web, dockerfile: ../docker/prod, additional_contexts: {{more: ./shared}}}}}}
        """
    project = world.project(file.format(name="copies"), files)
    world.up(project)
    found = world.run(project, "cd; cat found").ok().out.split()
    assert [name for name in found if name.endswith((".txt", ".py"))] == ["./n.txt", "./src/x/y.py"]
    web = "sudo docker compose -f /compose.yaml exec web sh -c 'ls -A /all; cat /c'"
    assert world.run(project, web).ok().out.split() == [".dockerignore", "a", "b", "c"]
    build = world.run(project, "cd /var/lib/sandbox/build; sudo find . -type f | sort").ok().out.split()
    assert build == [
        *("./web+0/.dockerignore", "./web+0/c"),
        *("./web+dockerfile/prod", "./web+dockerfile/prod.dockerignore"),
        *("./web/.dockerignore", "./web/a", "./web/b"),
    ]
    world.sandbox("down", cwd=project).ok()
    world.project(file.format(name="renamed"))
    assert "web: running" in world.up(project).out
