"""Sandboxes that begin where another one is: each of its own from then on, no freer, and nothing of them stays."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

from world import World, wait_until

from engine.resolve.host_ports import pick_port

# Counts in its memory and says who it is, also after the fork.
WORK = """
import http.server, socket
class Server(http.server.BaseHTTPRequestHandler):
    count = 0
    def do_GET(self):
        Server.count += 1
        body = "%d %s" % (Server.count, socket.gethostname())
        self.send_response(200); self.end_headers(); self.wfile.write(body.encode())
    def log_message(self, *words): pass
http.server.HTTPServer(("0.0.0.0", 8106), Server).serve_forever()
"""
SECRET = "sk-only-in-the-environment-4712"
WHO = "cat /etc/machine-id; hostname; head -c 16 /dev/urandom | od -An -tx1; echo $SANDBOX_NAME"
REFUSED = "curl -s -m 30 -o /dev/null -w '%{http_code}' http://denied.example/"


def ask(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
        return str(answer.read().decode())


def test_clones_begin_where_it_is_and_are_their_own(world: World) -> None:
    port = pick_port()
    text = f"""
        name: shop
        mounts: [".:/workspace:clone"]
        endpoints:
          - {{host: allowed.example, secret: key}}
        secrets: {{key: {{env: KEY}}}}
        ports: ["{port}:8106"]
        """
    project = world.project(text, {"text": "words\n", "work.py": WORK})
    os.environ["KEY"] = SECRET
    try:
        _forks(world, project, port)
    finally:
        del os.environ["KEY"]


def _forks(world: World, project: Path, port: int) -> None:
    world.up(project)
    world.on(project, "shop", "nohup python3 /workspace/work.py >/dev/null 2>&1 & echo before > /var/tmp/mark")
    assert wait_until(lambda: _answer(port), bool, "it does not serve") == "1 shop"
    world.sandbox("deny", "allowed.example", cwd=project).ok()

    without = world.sandbox("fork", cwd=project, KEY="")
    assert without.code == 1 and "shop-2" in without.err, without.err
    assert [row["name"] for row in world.listed(project)] == ["shop"], "what failed left nothing"
    assert not _forks_left()

    said: dict[str, Any] = json.loads(world.sandbox("fork", "-n", "2", "--json", cwd=project).ok().out)
    assert [clone["name"] for clone in said["clones"]] == ["shop-2", "shop-3"] and said["notes"] == []
    ports = {clone["name"]: clone["ports"][0]["host"] for clone in said["clones"]}
    assert len({port, *ports.values()}) == 3
    print(f"stood still for {said['stood_still_seconds']} s")
    assert {row["name"]: row["status"] for row in world.listed(project)} == dict.fromkeys(
        ("shop", "shop-2", "shop-3"), "running"
    )
    seen = {name: world.on(project, name, WHO).split() for name in ("shop", *ports)}
    assert len({words[0] for words in seen.values()}) == 3, "each has a machine-id"
    assert [words[1] for words in seen.values()] == ["shop", "shop-2", "shop-3"]
    assert [words[-1] for words in seen.values()] == ["shop", "shop-2", "shop-3"]
    assert len({tuple(words[2:18]) for words in seen.values()}) == 3, "each has its own randomness"
    for name in seen:
        guest = float(world.on(project, name, "date +%s.%N"))
        assert abs(guest - time.time()) < 30, "its clock is right"

    assert ask(port) == "2 shop", "the source runs on"
    assert [ask(each) for each in ports.values()] == ["2 shop-2", "2 shop-3"], "with all that was in its memory"
    for name in seen:
        world.on(project, name, f"echo {name} > /var/tmp/mark; echo {name} > /workspace/mine; sync")
    assert [world.on(project, name, "cat /var/tmp/mark").strip() for name in seen] == list(seen)
    for name in seen:
        assert world.on(project, name, REFUSED) == "403"
        denied = REFUSED.replace("denied.example", "allowed.example")
        assert world.on(project, name, denied) == "403", f"what was denied for now is denied in {name}"
        journal = world.sandbox("journal", name, "--json", cwd=project).ok().out
        assert "denied.example" in journal and f'"{name}"' in journal, "each gateway has its own journal"
    rows = {row["name"]: row for row in world.listed(project)}
    assert [row["name"] for row in rows["shop-3"]["temporary"]] == ["allowed.example"]
    state = Path(os.environ["SANDBOX_STATE_DIR"])
    assert not [path for path in state.rglob("*") if path.is_file() and _holds(path, SECRET.encode())]
    assert [path.name for path in _forks_left()] == ["disk.qcow2", "layer-1.qcow2", "meta.json"], (
        "memory and keys are gone"
    )

    changed = world.sandbox("diff", "--stat", "-n", "shop-2", cwd=project).ok().out
    assert "mine" in changed
    world.sandbox("apply", "-n", "shop-2", cwd=project).ok()
    assert (project / "mine").read_text() == "shop-2\n"

    _is_said(world, project)
    _lives_on_alone(world, project, ports)
    world.sandbox("down", "--all", "--yes", cwd=project).ok()
    assert not _forks_left() and not list((state / "instances").iterdir())


def _is_said(world: World, project: Path) -> None:
    """A file that says something else by now; and a clone that is forked, too."""
    file = project / "Sandboxfile.yaml"
    before = file.read_text()
    file.write_text(before.replace("allowed.example", "other.example"))
    forked = world.sandbox("fork", "shop-2", cwd=project).ok()
    assert forked.out.split()[0] == "shop-2-2" and "says something else by now" in forked.err
    assert world.on(project, "shop-2-2", "cat /var/tmp/mark").strip() == "shop-2"
    file.write_text(before)


def _lives_on_alone(world: World, project: Path, ports: dict[str, int]) -> None:
    """The source goes, another clone is paused and goes on: the disk below them stays as long as one is there."""
    world.sandbox("pause", "shop", cwd=project).ok()
    world.sandbox("resume", "shop", cwd=project).ok()
    assert world.on(project, "shop", "cat /var/tmp/mark").strip() == "shop", "its disk is whole"
    world.sandbox("down", "shop", "--yes", cwd=project).ok()
    world.sandbox("down", "shop-2", "--yes", cwd=project).ok()
    assert world.on(project, "shop-2-2", "cat /var/tmp/mark").strip() == "shop-2"
    world.sandbox("pause", "shop-3", cwd=project).ok()
    paused = world.sandbox("fork", "shop-3", cwd=project)
    assert paused.code == 1 and "`sandbox resume shop-3` wakes it" in paused.err
    world.sandbox("resume", "shop-3", cwd=project).ok()
    assert ask(ports["shop-3"]) == "3 shop-3"
    world.sandbox("fork", "shop-3", cwd=project).ok()  # its memory is QEMU's own by now
    assert world.on(project, "shop-3-2", "cat /var/tmp/mark").strip() == "shop-3"


def test_a_live_mount_is_refused(world: World) -> None:
    project = world.project('name: alive\nmounts: [".:/workspace"]\n')
    world.up(project)
    refused = world.sandbox("fork", cwd=project)
    assert refused.code == 1 and "live mounts (/workspace)" in refused.err and "mode: clone" in refused.err
    assert world.run(project, "echo on").ok().out == "on\n" and not _forks_left()


def test_whoever_is_killed_leaves_nothing(world: World) -> None:
    project = world.project("name: killed\n")
    world.up(project)
    forks = Path(os.environ["SANDBOX_STATE_DIR"]) / "forks"
    for reached in ("held", "launch.json", "ram", "state", "meta.json"):
        forking = world.start("fork", cwd=project)
        wait_until(lambda name=reached: list(forks.glob(f"*/{name}")), bool, f"no {reached}")
        forking.send_signal(signal.SIGKILL)
        forking.wait()
        assert world.on(project, "killed", "echo on") == "on\n", "the source runs on"
    wait_until(lambda: [row["status"] for row in world.listed(project)], lambda rows: "starting" not in rows, "starts")
    machine = next(pid for pid, words in world.processes().items() if "-name sandbox-killed " in words)
    forking = world.start("fork", cwd=project)
    wait_until(lambda: list(forks.glob("*/ram")), bool, "no memory")
    os.kill(machine, signal.SIGKILL)
    assert forking.wait(60) != 0
    world.sandbox("down", "--all", "--yes", cwd=project).ok()
    assert not _forks_left()


def _forks_left() -> list[Path]:
    return sorted((Path(os.environ["SANDBOX_STATE_DIR"]) / "forks").rglob("*.*"))


def _answer(port: int) -> str:
    try:
        return ask(port)
    except OSError:
        return ""


def _holds(path: Path, word: bytes) -> bool:
    last = b""
    with path.open("rb") as file:
        while chunk := file.read(1 << 24):
            if word in last + chunk:
                return True
            last = chunk[-len(word) :]
    return False


def test_a_named_snapshot_is_begun_at_as_often_as_one_likes(world: World) -> None:
    project = world.project('name: shop\nmounts: [".:/workspace:clone"]\n', {"text": "words\n"})
    world.up(project)
    world.on(project, "shop", "echo then > /var/tmp/mark; exec 3>/dev/null; nohup sleep 4711 >/dev/null 2>&1 &")
    said = json.loads(world.sandbox("snapshot", "tested", "--json", cwd=project).ok().out)
    assert said["of"] == "shop" and said["size"] > 50_000_000
    world.on(project, "shop", "echo later > /var/tmp/mark")
    world.sandbox("down", "shop", "--yes", cwd=project).ok()
    for name in ("shop", "shop-2"):
        world.sandbox("up", "-d", "--yes", "--from", "tested", "-n", name, cwd=project).ok()
        assert world.on(project, name, "cat /var/tmp/mark; hostname").split() == ["then", name]
        assert world.on(project, name, "pgrep -fc 'sleep [4]711'").strip() == "1", "what ran then runs"
    needed = world.sandbox("snapshot", "--rm", "tested", cwd=project)
    assert needed.code == 1 and "shop" in needed.err
    other = world.sandbox("up", "-d", "--yes", "--from", "tested", "-n", "big", "--set", "machine.cpus=1", cwd=project)
    assert other.code == 1 and "machine section" in other.err
    world.sandbox("down", "--all", "--yes", cwd=project).ok()
    world.sandbox("snapshot", "--rm", "tested", cwd=project).ok()
    snapshots = Path(os.environ["SANDBOX_STATE_DIR"]) / "snapshots"
    assert not list(snapshots.iterdir()) and not _forks_left()
