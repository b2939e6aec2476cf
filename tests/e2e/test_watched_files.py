"""A program in the guest that watches files (inotify) sees what the host changes, and the host sees nothing of it."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

from world import World

FILE = "name: watched\nmounts: [{source: ., target: /workspace, local: [out]}]\n"
# Prints each event as "NAME MASK". Ends when there is a file `stop`.
WATCHER = r"""
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
queue = libc.inotify_init1(0)
places = {libc.inotify_add_watch(queue, path.encode(), 0xFFF & ~0x31): path for path in sys.argv[1:]}
for path in sys.argv[1:]:
    os.listdir(path)
print("watching", flush=True)
while True:
    data, at = os.read(queue, 65536), 0
    while at < len(data):
        number, mask, _, size = struct.unpack_from("iIII", data, at)
        name = data[at + 16 : at + 16 + size].rstrip(b"\0").decode()
        at += 16 + size
        print(f"{places[number]}/{name} {mask & 0xfff:x}".replace("/ ", " "), flush=True)
        if name == "stop":
            sys.exit()
"""
DEADLINE_S = 60.0


class Watcher:
    """The lines that the program in the guest prints."""

    def __init__(self, world: World, project: Path, *paths: str) -> None:
        self._process = world.start("exec", "--", "python3", "watcher.py", *paths, cwd=project)
        self._lines: list[str] = []
        self._more = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        self.until("watching")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._more:
                self._lines.append(line.decode().strip())
                self._more.notify_all()

    def until(self, line: str) -> list[str]:
        """Wait for a line; returns what came up to it, and forgets that."""
        with self._more:
            assert self._more.wait_for(lambda: line in self._lines, DEADLINE_S), (line, self._lines)
            at = self._lines.index(line) + 1
            found, self._lines = self._lines[:at], self._lines[at:]
            return found


def save(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}~")
    new.write_text(text)
    if os.geteuid() == 0:
        os.chown(new, path.parent.stat().st_uid, path.parent.stat().st_gid)
    new.replace(path)


def test_host_edits_reach_watchers_in_the_guest(world: World) -> None:
    project = world.project(FILE, {"watcher.py": WATCHER, "src/app.js": "one\n", "src/deep/x": "x\n"})
    if os.geteuid() == 0:
        st = project.stat()
        subprocess.run(["chown", "-R", f"{st.st_uid}:{st.st_gid}", project], check=True)
    world.up(project)
    watcher = Watcher(world, project, "/workspace/src", "/workspace")
    file = project / "src" / "app.js"

    # In place, by rename, new, gone. 2 is IN_MODIFY.
    for number in range(3):
        file.write_text(f"{number}\n")
        before = file.stat()
        watcher.until("/workspace/src/app.js 2")
        assert file.stat() == before, "the host's file is as the host has left it"
        assert world.run(project, "cat src/app.js").ok().out == f"{number}\n"
    save(file, "by rename\n")
    watcher.until("/workspace/src/app.js 2")
    assert world.run(project, "cat src/app.js").ok().out == "by rename\n"
    (project / "src" / "new.js").write_text("new\n")
    watcher.until("/workspace/src/new.js 2")
    (project / "src" / "new.js").unlink()
    watcher.until("/workspace/src 2")

    # What the guest does itself is told by its kernel, once, and not by us: 2 and 8 of the write, then the next host's.
    world.run(project, "echo guest >> src/app.js").ok()
    watcher.until("/workspace/src/app.js 8")
    (project / "marker").write_text("x\n")
    assert not [line for line in watcher.until("/workspace/marker 2") if "app.js" in line]

    # Ten thousand at once, as of a checkout: it goes on working, and the last change is seen.
    for number in range(10_000):
        (project / "src" / f"many-{number}").write_text("x")
    file.write_text("after many\n")
    watcher.until("/workspace/src 2")
    for number in range(10_000):
        (project / "src" / f"many-{number}").unlink()
    (project / "last").write_text("x\n")
    watcher.until("/workspace/last 2")

    # Files of the guest's own below the mount keep their times.
    world.run(project, "echo x > out/own && touch -d @1000 out/own").ok()
    (project / "out").mkdir()
    (project / "out" / "own").write_text("host\n")
    (project / "stop").write_text("x\n")
    watcher.until("/workspace/stop 2")
    assert world.run(project, "stat -c %Y out/own").ok().out == "1000\n"
