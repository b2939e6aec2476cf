"""A sandbox that runs follows its file: what can be changed while it runs is, and nothing else is touched.

One sandbox goes through all of it, in the order of the sections below: every machine costs minutes under emulation.
"""

from __future__ import annotations

import json
import os
import re
import struct
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from world import UP_S, Ran, World, wait_until

from engine.resolve.host_ports import pick_port

FILE = """version: "1"
name: live
agent: {command: [sh, -c, "echo the agent says $WORD"], env: {WORD: one}}
services:
  web: {build: ./web, command: [sleep, infinity], init: true}
  side:
    image: localhost/debian:13
    command: [sleep, infinity]
    init: true
    environment: {NAME: first}
    env_file: [side.env]
    configs: [{source: words, target: /words}]
configs:
  words: {file: words.txt}
"""
# Not by npm itself, which answers from its cache when nobody else does.
ASK_REGISTRY = 'url=$(npm config get registry) && curl -sS -f -m 60 -o /dev/null "${url%/}/is-number"'
OPEN_CONNECTION = """
import socket, ssl, subprocess, urllib.parse
url = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True).stdout.strip()
host = urllib.parse.urlsplit(url).hostname
connection = ssl.create_default_context().wrap_socket(socket.create_connection((host, 443)), server_hostname=host)
print("open", flush=True)
try:
    connection.recv(1)
except OSError:
    pass
"""


@dataclass
class Live:
    """The sandbox `live` of one project."""

    world: World
    project: Path

    def write(self, text: str) -> None:
        (self.project / "Sandboxfile.yaml").write_text(text)

    def up(self, *options: str) -> Ran:
        argv = ("up", "-d", "--progress", "plain", *options)
        return self.world.sandbox(*argv, cwd=self.project, timeout_s=UP_S)

    def plan(self) -> list[tuple[str, str, str]]:
        document = json.loads(self.world.sandbox("plan", "--json", cwd=self.project).ok().out)
        assert document["running"]["name"] == "live"
        return [(row["path"], row["how"], row["what"]) for row in document["running"]["changes"]]

    def apply(self, *expected: tuple[str, str, str]) -> Ran:
        """`up`, which must do exactly what `plan` says, and that must be `expected`."""
        assert self.plan() == list(expected)
        ran = self.up("--yes", "--json").ok()
        assert [(row["path"], row["how"], row["what"]) for row in json.loads(ran.out)["applied"]] == list(expected)
        assert self.plan() == []
        return ran

    def run(self, script: str) -> Ran:
        return self.world.run(self.project, script)

    def identity(self) -> tuple[str, ...]:
        """Of the machine: differs after a reboot, and in another machine."""
        return tuple(self.run("cat /proc/sys/kernel/random/boot_id /etc/machine-id").ok().out.split())

    def containers(self) -> dict[str, str]:
        """Service to its container."""
        form = '{{.Label "com.docker.compose.service"}} {{.ID}}'
        words = self.run(f"docker ps --no-trunc --format '{form}'").ok().out.split()
        return dict(zip(words[::2], words[1::2], strict=True))

    def snapshot(self) -> Path:
        """The snapshot that it was started from: what its disk is backed by."""
        disk = Path(os.environ["SANDBOX_STATE_DIR"]) / "instances" / "live" / "disk.qcow2"
        with disk.open("rb") as file:
            place, length = struct.unpack(">8xQI", file.read(20))
            file.seek(place)
            return (disk.parent / file.read(length).decode()).resolve().parent

    def inside(self, service: str, command: str) -> str:
        return self.run(f"docker compose exec -T {service} {command}").ok().out.strip()


def fetch(port: int) -> int | str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            return int(answer.status)
    except (urllib.error.URLError, OSError) as error:
        return str(error)


def test_a_running_sandbox_follows_its_file(world: World) -> None:
    project = world.project("", {"web/Dockerfile": dockerfile("one"), "side.env": "X=1\n", "words.txt": "one\n"})
    live = Live(world, project)
    live.write(FILE)
    live.up("--yes").ok()
    machine, containers = live.identity(), live.containers()
    assert set(containers) == {"web", "side"} and live.plan() == []
    snapshot = memory(live)

    # A comment, another form of the same value: nothing.
    live.write(
        "# what this is for\n" + FILE.replace("[side.env]", "side.env").replace("{WORD: one}", "{'WORD': 'one'}")
    )
    assert [path for path, _, _ in live.plan()] == ["services.side.env_file"], "a text and a list of one text differ"
    live.write("# what this is for\n" + FILE.replace("{WORD: one}", "{'WORD': 'one'}"))
    assert live.plan() == []
    assert "live is already running, unchanged" in live.up().ok().out

    reach(live, machine, containers)
    services(live, machine, containers)
    failure(live, machine)
    assert memory(live) == snapshot, "what the guest did with its memory has changed the snapshot"
    new_machine(live, machine)


def memory(live: Live) -> tuple[int, int]:
    """When the snapshot's memory file was last changed, and how much of it there is: freed pages must not be holes."""
    seen = (live.snapshot() / "ram").stat()
    return seen.st_mtime_ns, seen.st_blocks


def assert_refused(ran: Ran) -> None:
    """By the gateway: an alert in TLS, or a 403."""
    assert ran.code != 0 and re.search(r"curl: \((35|22)\)", ran.err), ran


def reach(live: Live, machine: tuple[str, ...], containers: dict[str, str]) -> None:
    """Endpoints, ports and the agent: none of it touches the machine or a container."""
    port = pick_port()
    assert_refused(live.run(ASK_REGISTRY))
    assert isinstance(fetch(port), str)
    live.run("sudo systemd-run --quiet --unit page python3 -m http.server 9000 --directory /etc/apt").ok()
    live.write(FILE.replace("WORD: one", "WORD: two") + f"endpoints: [npm]\nports: ['{port}:9000']\n")
    live.apply(
        ("agent.env.WORD", "live", "changed"), ("endpoints", "live", "+ npm"), ("ports", "live", f"+ {port}:9000")
    )
    live.run(ASK_REGISTRY).ok()
    assert wait_until(lambda: fetch(port), lambda seen: seen == 200, "the port does not answer") == 200
    assert live.world.listed(live.project)[0]["ports"] == [{"host": port, "guest": 9000}]
    agent = live.world.sandbox("up", "--yes", cwd=live.project).ok()
    assert agent.out == "the agent says two\n"

    with live.world.start("exec", "--", "python3", "-c", OPEN_CONNECTION, cwd=live.project) as connection:
        assert connection.stdout is not None and connection.stdout.readline() == b"open\n"
        live.write(FILE)
        live.apply(
            ("agent.env.WORD", "live", "changed"),
            ("endpoints", "live", "- npm"),
            ("ports", "live", f"- {port}:9000"),
        )
        assert connection.wait(60) == 0
    assert any(line["reason"] == "no longer allowed; cut off" for line in live.world.journal(live.project))
    assert_refused(live.run(ASK_REGISTRY))
    assert "refused" in str(fetch(port))
    assert (live.identity(), live.containers()) == (machine, containers)

    # The machine has no way to hand connections to another port over.
    live.write(FILE + "endpoints: ['db.example.com:5432']\n")
    needed = "+ db.example.com:5432 (a new port needs a new machine)"
    assert live.plan() == [("endpoints", "new machine", needed)]


def services(live: Live, machine: tuple[str, ...], containers: dict[str, str]) -> None:
    """What changed about a service replaces its container, and no other."""
    (live.project / "web" / "Dockerfile").write_text(dockerfile("two"))
    live.write(FILE)
    live.apply(("services.web.build", "live", "its content changed"))
    now = live.containers()
    assert now["side"] == containers["side"] and now["web"] != containers["web"]
    assert live.inside("web", "cat /made") == "two"

    before, text = now, FILE.replace("NAME: first", "NAME: second")
    live.write(text)
    live.apply(("services.side.environment.NAME", "live", "changed"))
    now = live.containers()
    assert now["web"] == before["web"] and now["side"] != before["side"]
    assert live.inside("side", "printenv NAME X") == "second\n1"

    for file, place in (("side.env", "services.side.env_file[0]"), ("words.txt", "configs.words.file")):
        before = now
        (live.project / file).write_text("X=2\n")
        live.apply((place, "live", "its content changed"))
        now = live.containers()
        assert now["web"] == before["web"] and now["side"] != before["side"], file
    assert live.inside("side", "printenv X") == "2" and live.inside("side", "cat /words") == "X=2"

    # One comes, and one goes.
    before = now
    extra = "  extra: {image: localhost/debian:13, command: [sleep, infinity], init: true}\n"
    live.write(text.replace("  side:\n", f"{extra}  side:\n"))
    live.apply(("services.extra", "live", "added"))
    now = live.containers()
    assert now == {**before, "extra": now["extra"]}
    live.write(text)
    live.apply(("services.extra", "live", "removed"))
    assert live.containers() == before
    assert [row["services"] for row in live.world.listed(live.project)] == [listed_services(live)]
    assert live.identity() == machine


def listed_services(live: Live) -> dict[str, Any]:
    return {name: {"name": name, "state": "running", "health": None} for name in ("side", "web")}


def failure(live: Live, machine: tuple[str, ...]) -> None:
    """A service that does not become healthy: the machine lives, and the next `up` with a better file heals it."""
    before = live.containers()
    good = (live.project / "Sandboxfile.yaml").read_text()
    sick = (
        "  sick:\n    image: localhost/debian:13\n    init: true\n"
        "    command: [sh, -c, 'echo it-says-this; exec sleep infinity']\n"
        "    healthcheck: {test: [CMD, 'false'], interval: 1s, retries: 2}\n"
    )
    live.write(good.replace("services:\n", f"services:\n{sick}").replace("WORD: one", "WORD: three"))
    ran = live.up("--yes")
    assert ran.code == 1
    assert "live could not be changed: starting services failed" in ran.err and "it-says-this" in ran.err
    assert "changed: nothing; not changed, or only in part: services, record" in ran.err
    assert live.identity() == machine
    assert "it-says-this" in live.world.sandbox("logs", "sick", cwd=live.project).ok().out
    assert [path for path, _, _ in live.plan()] == ["agent.env.WORD", "services.sick"]

    live.write(good)
    live.apply(("services", "live", "the last change of it did not come to its end"))
    assert live.containers() == before and live.identity() == machine


def new_machine(live: Live, machine: tuple[str, ...]) -> None:
    """Memory, setup: said before, refused without a word from the user, done with it."""
    before = live.containers()
    head = "version: '1'\nname: live\n"
    live.write(f"{head}setup: [echo changed]\n")
    assert ("setup", "new machine", "+ echo changed") in live.plan()
    live.write(f"{head}machine: {{memory: 1536MiB}}\n")
    changes = live.plan()
    assert ("machine.memory", "new machine", "2GiB -> 1536MiB") in changes
    assert ("services.web", "live", "removed") in changes
    ran = live.up()
    assert ran.code == 2 and "needs a new machine" in ran.err and "machine.memory" in ran.err
    assert (live.identity(), live.containers()) == (machine, before), "nothing was touched"

    ran = live.up("--yes").ok()
    assert "live is up in a new machine" in ran.out
    now = live.identity()
    assert now[0] != machine[0] and now[1] != machine[1]
    assert int(live.run("grep MemTotal /proc/meminfo").ok().out.split()[1]) < 1536 * 1024
    assert live.containers() == {} and live.plan() == []

    live.write(f"{head}machine: {{memory: 1536MiB}}\nsetup: ['echo changed > ~/made']\n")
    assert live.plan() == [("setup", "new machine", "+ echo changed > ~/made")]
    assert "live is up in a new machine" in live.up("--yes").ok().out
    assert live.run("cat ~/made").ok().out == "changed\n"
    assert live.identity()[1] != now[1] and live.plan() == []


def dockerfile(word: str) -> str:
    return f"FROM localhost/debian:13\nRUN echo {word} > /made\n"
