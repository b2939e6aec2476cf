"""A live mount with a real machine: root in the guest attacks it, and both sides work on the same files at once."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from world import UP_S, World

from engine.attacks.guest import fuse

BESIDE = "import sys, types\nfuse = sys.modules[{name!r}] = types.ModuleType({name!r})\nexec({text!r}, fuse.__dict__)\n"
RAW_FUSE = (Path(__file__).parent / "raw_fuse.py").read_text()
ROUNDS = 10
COUNTS = {"delete": 60, "wal": 8}  # in WAL mode SQLite waits for seconds when the other side has the database
# Adds one, so many times or until there is a file `stop`; each in a transaction, in WAL mode each in a connection of
# its own. Thinks for a moment in between, or the nearer side would have the database all the time.
COUNTER = """
import os, sqlite3, sys, time
path, mode, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
connection, done = None, 0
while done < times and not os.path.exists("stop"):
    try:
        if connection is None:
            connection = sqlite3.connect(path, timeout=60, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        (value,) = connection.execute("SELECT value FROM counter").fetchone()
        connection.execute("UPDATE counter SET value = ?", (value + 1,))
        connection.execute("COMMIT")
        done += 1
        if done == 1:
            print("counting", flush=True)
        time.sleep(0.02)
    except sqlite3.OperationalError as error:
        if not any(word in str(error) for word in ("locked", "locking protocol")):
            raise
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.close()
        connection = None
    if mode == "wal" and connection is not None:
        connection.close()
        connection = None
print(done)
"""


def picture(*paths: Path) -> dict[str, Any]:
    """Everything that somebody could have changed."""
    found = {}
    for top in paths:
        for path in [top, *sorted(top.rglob("*"))]:
            st = path.lstat()
            content = str(path.readlink()) if path.is_symlink() else path.read_text() if path.is_file() else ""
            found[str(path)] = (content, st.st_ino, st.st_mode, st.st_uid, st.st_nlink, st.st_mtime_ns, st.st_ctime_ns)
    return found


def test_root_in_the_guest_speaks_fuse_by_itself(world: World) -> None:
    """Past its kernel, which checks names: nothing outside of the mounts, and nothing protected, is within reach."""
    files = {"file": "file\n", "directory/below": "below\n", "../outside/victim": "victim\n", "../outside/sub/x": "x\n"}
    files |= {f"../readonly/{name}": "ro\n" for name in ("file", "directory/below")}
    project = world.project("name: raw\nmounts: [.:/workspace, '../readonly:/ro:ro']\n", files, "outer/project")
    world.up(project)
    outside, readonly = world.base / "outer" / "outside", world.base / "outer" / "readonly"
    kept = (outside, readonly, project / "Sandboxfile.yaml", project / "directory")
    before, beside = picture(*kept), sorted(os.listdir(world.base / "outer"))  # noqa: PTH208
    argv = ("exec", "-i", "-u", "root", "-w", "/", "--", "python3", "-", str(outside), "/workspace", "/ro")
    program = BESIDE.format(name=fuse.__name__, text=Path(fuse.__file__).read_text()) + RAW_FUSE
    results = json.loads(world.sandbox(*argv, cwd=project, stdin=program, timeout_s=600).ok().out)

    assert set(results) == {"mount0", "mount1"}
    assert [results[tag].pop("afterwards") for tag in ("mount0", "mount1")] == ["file\n", "ro\n"]
    for tag, tried in results.items():
        assert len(tried) > 500
        assert {what: result for what, result in tried.items() if result == "done"} == {}, tag
        silent = {what for what, result in tried.items() if result == "silent"}
        assert silent == {what for what in tried if what.startswith("queue: ")}, tag
    assert picture(*kept) == before
    assert sorted(os.listdir(world.base / "outer")) == beside  # noqa: PTH208
    assert sorted(os.listdir(project)) == ["Sandboxfile.yaml", "directory", "file", "other"]  # noqa: PTH208


def test_both_sides_commit_in_turn_and_nothing_is_lost(world: World) -> None:
    project = world.project("name: turns\nmounts: [.:/workspace]\n", {"start": "start\n"})
    git(project, "init", "-q", "-b", "main")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "start")
    world.up(project)
    world.run(project, "git config --global user.name guest && git config --global user.email guest@localhost").ok()
    expected = ["start"]
    for number in range(ROUNDS):
        # The guest has just looked at all of it, the host commits, the guest commits at once; and the other way round.
        world.run(project, "git status --short && git log --oneline > /dev/null && git rev-parse HEAD").ok()
        commit(project, f"host-{number}")
        ours = f"guest-{number}"
        script = f"echo {ours} > {ours} && git add {ours} && git commit -q -m {ours} && git rev-parse HEAD"
        head = world.run(project, script).ok().out.strip()
        assert git(project, "rev-parse", "HEAD").strip() == head
        assert git(project, "status", "--short") == ""
        commit(project, f"host-again-{number}")
        expected += [f"host-{number}", ours, f"host-again-{number}"]
    assert git(project, "log", "--reverse", "--format=%s").split() == expected
    log = world.run(project, "git log --reverse --format=%s && git status --short && git fsck --strict 2>&1").ok().out
    assert log.split() == expected
    assert git(project, "fsck", "--strict") == ""


def test_both_sides_count_in_one_database_at_once(world: World) -> None:
    project = world.project("name: counters\nmounts: [.:/workspace]\n", {"counter.py": COUNTER})
    world.up(project)
    for mode, times in COUNTS.items():
        database = project / f"{mode}.db"
        connection = sqlite3.connect(database)
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE counter (value INTEGER)")
        connection.execute("INSERT INTO counter VALUES (0)")
        connection.commit()
        connection.close()
        ours = [sys.executable, "counter.py", database.name, mode, str(1_000_000)]
        with subprocess.Popen(ours, cwd=project, stdout=subprocess.PIPE, text=True) as here:
            try:
                assert here.stdout is not None and here.stdout.readline() == "counting\n"
                theirs = f"python3 counter.py {database.name} {mode} {times}"
                inside = world.run(project, theirs, timeout_s=600).ok()
                assert here.poll() is None, "both were at it"
                (project / "stop").touch()
                counted = int(here.stdout.read())
            finally:
                here.kill()
        (project / "stop").unlink()
        assert inside.out == f"counting\n{times}\n" and counted > 1
        connection = sqlite3.connect(database)
        try:
            assert connection.execute("SELECT value FROM counter").fetchone() == (times + counted,), mode
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        finally:
            connection.close()


def test_three_thousand_files_under_a_limit_of_1024_descriptors(world: World) -> None:
    project = world.project("name: many\nmounts: [.:/workspace]\n")
    command = [sys.executable, "-m", "engine.cli.main", "up", "-d", "--yes", "--progress", "plain"]
    limited = ["sh", "-c", 'ulimit -n 1024; exec "$@"', "sh", *command]
    up = subprocess.run(limited, cwd=project, capture_output=True, text=True, timeout=UP_S, stdin=subprocess.DEVNULL)
    assert up.returncode == 0, up.stderr
    server, _ = sorted(pid for pid, line in world.processes().items() if "vmm.fileserver" in line)  # and its stand-in
    limits = Path(f"/proc/{server}/limits").read_text()
    assert next(line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files")) == ["1024"] * 2
    script = """
        import os
        os.makedirs("many")
        for number in range(3000):
            with open(f"many/{number}", "w") as file:
                file.write(str(number))
        assert sorted(map(int, os.listdir("many"))) == list(range(3000))
        print(sum(int(open(f"many/{number}").read()) for number in range(3000)))
    """
    program = textwrap.dedent(script)
    ran = world.sandbox("exec", "-i", "--", "python3", "-", cwd=project, stdin=program, timeout_s=600).ok()
    assert int(ran.out) == sum(range(3000))
    assert sum(int(path.read_text()) for path in (project / "many").iterdir()) == sum(range(3000))
    assert len(list(Path(f"/proc/{server}/fd").iterdir())) < 512
    # After all of them the guest's kernel remembers every one, and a second look costs no descriptor either.
    assert world.run(project, "cat many/* | wc -c && find . -type f | wc -l").ok().out.split() == ["10890", "3001"]


def git(project: Path, *argv: str) -> str:
    identity = ("-c", "user.name=host", "-c", "user.email=host@localhost", "-c", "safe.directory=*")
    done = subprocess.run(["git", *identity, *argv], cwd=project, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout


def commit(project: Path, name: str) -> None:
    (project / name).write_text(f"{name}\n")
    git(project, "add", name)
    git(project, "commit", "-q", "-m", name)
