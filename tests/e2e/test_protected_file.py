"""What says what a sandbox is cannot be changed from inside it, although its guest may write all around that."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from world import World, wait_until

ATTACK = (Path(__file__).parent / "attack_file.py").read_text()
FILE = "name: kept\nmounts: [.:/workspace, '..:/outer']\nmachine: {memory: '${MEMORY}'}\n"
NAMES = ("Sandboxfile.yaml", "Sandboxfile.local.yaml", ".env")


def seen(path: Path) -> tuple[str, int, int, int, int, int, list[str]]:
    """Everything about a file that somebody could have changed."""
    stat = path.stat(follow_symlinks=False)
    attributes = os.listxattr(path)
    return path.read_text(), stat.st_ino, stat.st_mode, stat.st_uid, stat.st_nlink, stat.st_mtime_ns, attributes


def attack(world: World, project: Path, file: str, *options: str) -> dict[str, str]:
    argv = ["exec", "-i", "-u", "root", "--", "python3", "-", file, *options]
    ran = world.sandbox(*argv, cwd=project, stdin=ATTACK).ok()
    return dict(json.loads(ran.out))


def test_root_in_the_guest_cannot_change_what_decides_about_the_sandbox(world: World) -> None:
    files = {"Sandboxfile.local.yaml": "packages: []\n", ".env": "MEMORY=2GiB\n", "code": "c\n"}
    project = world.project(FILE, files, "outer/project")
    world.up(project)
    before = {name: seen(project / name) for name in NAMES}

    for name in NAMES:
        for directory in ("/workspace", "/outer/project"):
            options = () if name == "Sandboxfile.yaml" else ("quick",)
            results = attack(world, project, f"{directory}/{name}", *options)
            assert {name: seen(project / name) for name in NAMES} == before, (directory, name, results)
            assert "done" not in results.values(), (directory, name, results)
    assert not {"away", "linked", "soft"} & set(os.listdir(project))  # noqa: PTH208

    # Through the mount of its parent, the project's directory stays where it is, too.
    for attempt in ("mv project elsewhere", "rmdir project", "mv project/../project x", "rm -rf project"):
        ran = world.run(project, f"cd /outer && sudo {attempt}")
        assert ran.code != 0 and re.search("busy|Read-only file system|not empty", ran.err), ran
    assert {name: seen(project / name) for name in NAMES} == before
    # ... and what was deletable in it is gone: the guest may write there.
    assert not (project / "code").exists()

    script = "echo one > new; echo more >> new; mv new moved; mkdir -p d/e; ln moved d/hard; chmod 700 moved; rm d/hard"
    world.run(project, script).ok()
    assert (project / "moved").read_text() == "one\nmore\n"

    # The user goes on editing on the host, in place and as editors do; the guest sees it and still cannot write.
    for number, edit in enumerate((in_place, by_rename, by_rename, anew)):
        text = before["Sandboxfile.yaml"][0] + f"# {number}\n"
        edit(project / "Sandboxfile.yaml", text)
        wait_until(
            lambda: world.run(project, "cat Sandboxfile.yaml").out,
            lambda out, text=text: out == text,
            "seen in the guest",
        )
        kept = seen(project / "Sandboxfile.yaml")
        results = attack(world, project, "/workspace/Sandboxfile.yaml", "quick")
        assert seen(project / "Sandboxfile.yaml") == kept, (edit, results)
        assert "done" not in results.values(), (edit, results)


def in_place(path: Path, text: str) -> None:
    with path.open("r+") as file:
        file.truncate()
        file.write(text)


def by_rename(path: Path, text: str) -> None:
    beside = path.with_name("4913~")
    beside.write_text(text)
    beside.replace(path)


def anew(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)
