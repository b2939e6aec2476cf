"""Directories of a live mount on the guest's own disk: as setup has left them, and out of the host's sight."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from world import World

FILE = """
name: own
setup:
  - run: mkdir -p node_modules packages/web/node_modules && echo {mark} > node_modules/made && echo web > packages/web/node_modules/made
mounts:
  - {{source: ., target: /workspace, local: [node_modules, packages/web/node_modules, target]}}
  - {{source: ../docs, target: /docs, mode: ro, local: [build]}}
services:
  look:
    image: localhost/debian:13
    volumes: [".:/app"]
    command: sh -c 'cat /app/node_modules/made; sleep infinity'
"""  # noqa: E501


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path))  # noqa: PTH208


def test_what_setup_has_left_lies_over_the_live_mount(world: World) -> None:
    mark = uuid.uuid4().hex
    files = {"file": "host\n", "packages/web/package.json": "{}\n", "../docs/page": "page\n"}
    files["node_modules/of-the-host"] = "host\n"
    project = world.project(FILE.format(mark=mark), files, "own/project")
    world.up(project)
    seen = world.run(project, "cat node_modules/made packages/web/node_modules/made file; ls node_modules target").ok()
    assert seen.out.split() == [mark, "web", "host", "node_modules:", "made", "target:"]
    assert world.sandbox("logs", "look", cwd=project).ok().out.count(mark) == 1, "containers have them, too"

    # The agent writes there, and nothing of it reaches the host. On a read-only mount it can write there, too.
    world.run(project, "echo x > node_modules/new && echo x > target/new && echo x > /docs/build/new").ok()
    assert names(project) == ["Sandboxfile.yaml", "file", "node_modules", "packages"]
    assert names(project / "node_modules") == ["of-the-host"] and names(project / "packages/web") == ["package.json"]
    assert names(project.parent / "docs") == ["page"]

    # What the host does with its own directories changes nothing, nor do live changes around them.
    (project / "node_modules" / "of-the-host").unlink()
    (project / "node_modules").rmdir()
    (project / "target").write_text("a file\n")
    (project / "later").write_text("later\n")
    assert world.run(project, "cat later; ls node_modules target").ok().out.split() == [
        "later", "node_modules:", "made", "new", "target:", "new",
    ]  # fmt: skip
    (project / "target").unlink()
    (project / "node_modules").mkdir()
    (project / "node_modules" / "of-the-host").write_text("host\n")

    # Root may take them away: what is below is empty, and the host's is not it.
    script = (
        "umount node_modules packages/web/node_modules target && ls -A node_modules target packages/web/node_modules;"
        "touch node_modules/x target/x; mkdir node_modules/y; rmdir node_modules; mv node_modules z; rm -rf target;"
        "mv packages p; ln -s /etc/passwd target"
    )
    looked = world.sandbox("exec", "-u", "root", "--", "sh", "-c", script, cwd=project)
    assert looked.out.split() == ["node_modules:", "packages/web/node_modules:", "target:"], looked
    assert looked.code != 0 and "Read-only file system" in looked.err
    assert names(project) == ["Sandboxfile.yaml", "file", "later", "node_modules", "packages"]
    assert names(project / "node_modules") == ["of-the-host"] and names(project / "packages/web") == ["package.json"]

    # A new machine begins with what setup has left.
    world.up(project, "--recreate")
    assert world.run(project, "cat node_modules/made; ls -A node_modules target").ok().out.split() == [
        mark, "node_modules:", "made", "target:",
    ]  # fmt: skip
