"""A sandbox that waits on the disk and goes on: as the one that it was, with what it had open, and no freer."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
import urllib.request
from pathlib import Path

from world import World, wait_until

from engine.resolve.host_ports import pick_port

# Stands in the mount, has a file open in it to write and another to read, serves a port, and counts.
WORK = """
import http.server, os, threading
os.chdir("/workspace/deep")
log, read = open("log", "a", buffering=1), open("text")
class Server(http.server.BaseHTTPRequestHandler):
    count = 0
    def do_GET(self):
        Server.count += 1
        log.write("line %d\\n" % Server.count)
        read.seek(0)
        body = "%d %s %s" % (Server.count, os.getcwd(), read.read().strip())
        self.send_response(200); self.end_headers(); self.wfile.write(body.encode())
    def log_message(self, *words): pass
http.server.HTTPServer(("0.0.0.0", 8105), Server).serve_forever()
"""
SECRET = "sk-only-in-the-environment-4711"
REFUSED = "curl -s -m 30 -o /dev/null -w '%{http_code}' http://denied.example/"
WHO = "cat /etc/machine-id /proc/sys/kernel/random/boot_id; hostname"


def ask(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
        return str(answer.read().decode())


def test_a_paused_sandbox_goes_on(world: World) -> None:
    port = pick_port()
    text = f"""
        name: sleeper
        mounts: [".:/workspace"]
        endpoints:
          - {{host: allowed.example, secret: key}}
        secrets: {{key: {{env: KEY}}}}
        ports: ["{port}:8105"]
        """
    project = world.project(text, {"deep/text": "words", "work.py": WORK})
    os.environ["KEY"] = SECRET
    try:
        _goes_on(world, project, port)
    finally:
        del os.environ["KEY"]


def _goes_on(world: World, project: Path, port: int) -> None:
    world.up(project)
    world.run(project, "nohup python3 work.py >/dev/null 2>&1 &").ok()
    assert wait_until(lambda: _answer(port), bool, "it does not serve") == "1 /workspace/deep words"
    before = world.run(project, WHO).ok().out
    world.sandbox("deny", "allowed.example", cwd=project).ok()

    said = json.loads(world.sandbox("pause", "--release-ports", "--json", cwd=project).ok().out)
    assert said["status"] == "paused" and said["bytes"] > 50_000_000
    assert world.processes() == {}, "a paused sandbox has no process"
    assert _answer(port) == "", "nobody listens"
    assert [row["status"] for row in world.listed(project)] == ["paused"]
    directory = Path(os.environ["SANDBOX_STATE_DIR"]) / "instances/sleeper"
    for path in directory.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            assert not _holds(path, SECRET.encode()), path
    again = world.sandbox("pause", cwd=project)
    assert again.code == 1 and "is paused already" in again.err
    copied = world.sandbox("cp", "sleeper:/etc/hostname", "here", cwd=project)
    assert copied.code == 1 and "`sandbox resume sleeper` wakes it" in copied.err

    (project / "deep/text").write_text("other words")  # the host goes on, too
    without = world.sandbox("resume", cwd=project, KEY="")
    assert without.code == 1 and [row["status"] for row in world.listed(project)] == ["paused"], without.err
    world.sandbox("resume", cwd=project).ok()
    assert world.run(project, WHO).ok().out == before, "it is who it was"
    guest = float(world.run(project, "date +%s.%N").ok().out)
    assert abs(guest - time.time()) < 30, "its clock is right"
    assert ask(port) == "2 /workspace/deep other words"
    assert (project / "deep/log").read_text() == "line 1\nline 2\n"
    assert world.run(project, REFUSED).ok().out == "403"
    denied = world.run(project, REFUSED.replace("denied.example", "allowed.example")).ok()
    assert denied.out == "403", "what was denied for now is denied"
    assert [row["name"] for row in world.listed(project)[0]["temporary"]] == ["allowed.example"]
    tls = world.run(project, "curl -sS -m 30 https://allowed.example/ 2>&1; true").ok().out
    assert "certificate" not in tls, f"its certificate authority is the one that the guest trusts: {tls}"

    _survives_a_killed_pause(world, project)
    world.sandbox("pause", cwd=project).ok()
    woken = world.run(project, "echo awake").ok()
    assert woken.out == "awake\n" and "waking it" in woken.err
    assert ask(port) == "3 /workspace/deep other words"
    world.sandbox("pause", cwd=project).ok()
    world.sandbox("down", cwd=project).ok()
    assert not directory.exists()


def _survives_a_killed_pause(world: World, project: Path) -> None:
    """Killed as soon as it has begun: it runs on. A killed supervisor loses nothing that is whole on the disk."""
    new = Path(os.environ["SANDBOX_STATE_DIR"]) / "instances/sleeper/paused.new"
    pausing = world.start("pause", cwd=project)
    wait_until(new.exists, bool, "it does not begin")
    pausing.send_signal(signal.SIGKILL)
    pausing.wait()
    assert world.run(project, "echo on").ok().out == "on\n"
    wait_until(new.exists, lambda there: not there, "half of it is left")


def _answer(port: int) -> str:
    try:
        return ask(port)
    except OSError:
        return ""


def _holds(path: Path, word: bytes) -> bool:
    """Sparse files are mostly holes, and this reads all of it."""
    last = b""
    with path.open("rb") as file:
        while chunk := file.read(1 << 24):
            if word in last + chunk:
                return True
            last = chunk[-len(word) :]
    return False


def test_one_without_a_live_mount_goes_on_from_a_file_of_its_memory(world: World) -> None:
    """Also the second time, when the file of before is gone, and forked after that."""
    project = world.project("name: alone\nagent: {command: [sleep, inf]}\n")
    world.up(project)
    world.run(
        project, "mkdir /dev/shm/kept && seq 500000 > /dev/shm/kept/numbers && sha256sum /dev/shm/kept/numbers"
    ).ok()
    before = world.run(project, "sha256sum /dev/shm/kept/numbers; cat /etc/machine-id").ok().out
    directory = Path(os.environ["SANDBOX_STATE_DIR"]) / "instances/alone"
    for more in ("first", "second"):
        world.sandbox("pause", cwd=project).ok()
        assert world.processes() == {} and (directory / "paused/ram").stat().st_size > 1 << 30
        world.sandbox("resume", cwd=project).ok()
        assert not (directory / "paused").exists() and not (directory / "pausing").exists()
        assert world.run(project, "sha256sum /dev/shm/kept/numbers; cat /etc/machine-id").ok().out == before
        world.run(project, f"echo {more} >> /dev/shm/kept/more").ok()
    world.sandbox("fork", cwd=project).ok()
    words = "cat /dev/shm/kept/more; sha256sum /dev/shm/kept/numbers"
    said = world.sandbox("exec", "alone-2", "--", "sh", "-c", words, cwd=project)
    assert said.ok().out == "first\nsecond\n" + before.splitlines()[0] + "\n"
