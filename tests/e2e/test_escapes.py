"""The attempts of engine/attacks by root in a real guest, in each state of a sandbox; and a search for the real values.

All of it happens in namespaces in which nothing goes unheard (escape_stage.py): as root's sandbox, or as that of an
ordinary user whom this host lets make namespaces.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import careless_server
import escape_stage
import pytest
import value_search
from world import CALL_S, DEADLINE_S, UP_S, Ran, World, wait_until

from engine.attacks.batch import COMMAND, make_order, read_answers
from engine.attacks.case import Case, load_cases, share
from engine.attacks.judgement import judge, summary

HERE = Path(__file__).parent
ROOT = os.geteuid() == 0
USER_NAMESPACE = [] if ROOT else ["-U", "--map-current-user", "--keep-caps"]
REAL = {"ANTHROPIC_API_KEY": "sk-ant-api03-real-and-never-in-the-guest", "GH_TOKEN": "ghp_realAndNeverInTheGuest0123"}
FILE = """
name: escapes
mounts: [.:/workspace, ./kept:/kept:ro]
secrets: {{anthropic: {{env: ANTHROPIC_API_KEY}}, github: {{env: GH_TOKEN}}}}
endpoints:
  - {{host: api.anthropic.com, secret: anthropic, methods: [POST], paths: [/v1/messages]}}
  - {{host: api.github.com, secret: github, methods: [GET], paths: ["/repos/acme/**"]}}
  - other.example.com
  - taken.example.com
  - "*.wild.example.com"
  - {{host: no.wild.example.com, deny: true}}
  - "*.inward.example.com"
setup: ["echo {planted} > ~/planted"]
"""
PLANT = "echo {word} > ~root/planted; echo {word} > /dev/shm/planted; sync; cat ~root/planted"
GARBAGE = """
sleep 1
systemctl stop sandbox-guestd
(head -c 8388608 /dev/urandom; yes RESTARTED | head -c 1048576; head -c 4194304 /dev/zero) > /dev/virtio-ports/*
"""
# It holds a connection, which the change of the endpoints must cut.
HOLD = """
import socket, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
with context.wrap_socket(socket.create_connection(("10.0.2.100", 443)), server_hostname="taken.example.com") as held:
    print("open", flush=True)
    try:
        held.recv(1)
    except OSError:
        pass
"""
RUN_S = 1200.0
CLI = [sys.executable, "-m", "engine.cli.main"]
STAGE: dict[str, Any] = {
    "gateway": {"80": ["10.0.2.100", 80], "443": ["10.0.2.100", 443]},
    "canary": escape_stage.CANARY,
    "targets": [
        *("10.0.2.2", "10.0.2.3", "10.0.2.4", "127.0.0.1", "169.254.169.254", "1.1.1.1", "255.255.255.255"),
        *("10.0.2.255", "224.0.0.1", "0.0.0.0", escape_stage.HOST, escape_stage.VENDOR),
    ],
}
STATES = ("fresh", "restored", "live-changed")


def can_make_namespaces() -> bool:
    argv = ["unshare", *USER_NAMESPACE, "-m", "-n", "ip", "link", "set", "lo", "up"]
    return subprocess.run(argv, capture_output=True).returncode == 0


@dataclass
class Staged(World):
    """A world whose commands run on the stage: in its namespaces, as the user that runs the tests."""

    stage: int = 0
    directory: Path = Path()

    def sandbox(self, *argv: str, cwd: Path, timeout_s: float = CALL_S, stdin: str | None = None, **env: str) -> Ran:
        began = time.monotonic()
        command = [*self.enter(cwd), *CLI, *argv]
        done = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**os.environ, "SSL_CERT_FILE": str(self.directory / "ca.crt"), **env},
        )
        return Ran(argv, done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def enter(self, cwd: Path) -> list[str]:
        user = [] if ROOT else ["-U", "--preserve-credentials"]
        return ["nsenter", "-t", str(self.stage), *user, "-m", "-n", f"--wdns={cwd}", "--"]

    def requests(self) -> list[tuple[str, str, str]]:
        """What the servers got: name in the hello, head, body."""
        log = self.directory / "requests"
        return [tuple(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []

    def heard(self) -> list[str]:
        return (self.directory / "heard").read_text().splitlines()


@contextmanager
def start_stage(base: Path, inward: dict[str, str]) -> Iterator[Staged]:
    directory = base / "stage"
    directory.mkdir()
    (directory / "inward.json").write_text(json.dumps(inward))
    argv = ["unshare", *USER_NAMESPACE, "-m", "-n", sys.executable, str(HERE / "escape_stage.py"), str(directory)]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("SANDBOX_")}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=outside) as stage:
        assert stage.stdin is not None and stage.stdout is not None
        assert stage.stdout.readline() == "ready\n"
        try:
            yield Staged(base, stage=stage.pid, directory=directory)
        finally:
            stage.stdin.close()
            stage.wait(DEADLINE_S)


@dataclass
class Escapes:
    """The sandbox that is attacked. `problems` are all that were seen: a run takes minutes, and tells everything."""

    world: Staged
    project: Path
    outside: Path
    names: dict[str, str]
    since: float
    problems: list[str] = field(default_factory=list)

    def expect(self, good: object, what: str) -> None:
        if not good:
            self.problems.append(what)

    def up(self) -> None:
        argv = ("up", "-d", "--yes", "--progress", "plain")
        self.world.sandbox(*argv, cwd=self.project, timeout_s=UP_S, **REAL).ok()

    def boot_id(self) -> str:
        return self.world.run(self.project, "cat /proc/sys/kernel/random/boot_id").ok().out

    def attack(self, state: str) -> None:
        """All attempts when the sandbox is fresh, some of every kind in the other states: they take minutes."""
        cases = [case for case in load_cases() if not case.states or state in case.states]
        if number := STATES.index(state):
            cases = share(cases, number, len(STATES))
        before = len(self.world.journal(self.project))
        argv = ("exec", "-i", "-u", "root", "-w", "/", "--", *COMMAND)
        order = make_order(cases, {**self.names, **STAGE})
        ran = self.world.sandbox(*argv, cwd=self.project, timeout_s=RUN_S, stdin=order).ok()
        outcomes = judge(cases, read_answers(ran.out), self.world.journal(self.project)[before:], self.names)
        print(f"{state}: {len(cases)} attempts in {ran.seconds:.0f} s", summary(outcomes, state), sep="\n")
        self.problems += [f"{state}: {one.case.label}: {text}" for one in outcomes for text in one.complaints]
        self.expect(not [value for value in REAL.values() if value in ran.out], f"{state}: the guest saw a real value")

    def change(self) -> None:
        """Take a name away while the sandbox runs, and a connection to it is open."""
        file = self.project / "Sandboxfile.yaml"
        file.write_text(file.read_text().replace("  - taken.example.com\n", ""))
        machine = self.boot_id()
        argv = [*self.world.enter(self.project), *CLI, "exec", "--", "python3", "-c", HOLD]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as holding:
            assert holding.stdout is not None and holding.stdout.readline() == b"open\n"
            self.up()
            self.expect(holding.wait(DEADLINE_S) == 0, "the connection was not cut")
        reasons = [line["reason"] for line in self.world.journal(self.project)]
        self.expect("no longer allowed; cut off" in reasons, "the journal does not say that the connection was cut")
        self.expect(self.boot_id() == machine, "the change was not live")

    def search(self, state: str) -> None:
        """The real values are nowhere; what was planted is found by the same search."""
        pairs = [(name, *item) for name, value in REAL.items() for item in value_search.forms(value).items()]
        secret = {f"{name} {form}": data for name, form, data in pairs}
        word = f"planted-{os.urandom(12).hex()}"
        self.world.sandbox("exec", "-u", "root", "--", "sh", "-c", PLANT.format(word=word), cwd=self.project).ok()
        control = {"planted": word.encode(), "built": self.built_word().encode()}
        needles = {**secret, **control}

        processes = self.world.processes()
        qemu = next(pid for pid, command in processes.items() if "qemu-system" in command)
        memory, read = value_search.in_memory(qemu, needles)
        print(f"{state}: searched {read >> 20} MiB of QEMU's memory: {memory}")
        self.expect("planted" in memory, f"{state}: what was planted is not found in QEMU's memory")

        state_directory = Path(os.environ["SANDBOX_STATE_DIR"])
        roots = [Path(os.environ[f"SANDBOX_{root}_DIR"]) for root in ("STATE", "RUNTIME", "CONFIG")]
        kept = value_search.in_files([root for root in roots if root.exists()], needles)
        disk = kept.get(str(state_directory / "instances/escapes/disk.qcow2"), set())
        self.expect("planted" in disk, f"{state}: what was planted is not found on the guest's disk, but in {kept}")
        made = value_search.in_files(self.new_entries(), needles)
        self.expect(
            any("built" in found for found in made.values()), f"{state}: no snapshot holds what was built: {made}"
        )
        around = value_search.in_processes(processes, secret)
        for place, found in {"QEMU's memory": memory, **kept, **made, **around}.items():
            self.expect(found <= set(control), f"{state}: a real value is in {place}: {found}")

    def new_entries(self) -> list[Path]:
        """Entries of the cache that were made for this sandbox."""
        cache = Path(os.environ["SANDBOX_CACHE_DIR"])
        entries = (entry for kind in ("setup", "booted", "services") for entry in (cache / kind).glob("*/"))
        return [entry for entry in entries if entry.stat().st_mtime >= self.since]

    def built_word(self) -> str:
        return (self.project / "Sandboxfile.yaml").read_text().split("echo ")[1].split(" ")[0]

    def lose_guestd(self) -> None:
        """Root ends guestd and speaks in its place: the host is not impressed."""
        argv = ("exec", "-u", "root", "--", "systemd-run", "--quiet", "--unit", "garbage", "sh", "-c", GARBAGE)
        self.world.sandbox(*argv, cwd=self.project).ok()
        wait_until(self.is_silent, bool, "guestd was not ended")
        names = [row["name"] for row in self.world.listed(self.project)]
        self.expect(names == ["escapes"], f"without guestd `ls` says {names}")

    def is_silent(self) -> bool:
        try:
            return self.world.sandbox("exec", "--", "true", cwd=self.project, timeout_s=5).code != 0
        except subprocess.TimeoutExpired:
            return True

    def look_outside(self) -> None:
        """What is to be seen on the host's side at the end."""
        self.expect(not self.world.heard(), f"the canary heard {self.world.heard()[:20]}")
        left = {path.name: path.read_text() for path in self.outside.iterdir()}
        self.expect(left == {"secret": "the host's\n"}, f"outside of the mounts there is {left}")
        kept = (self.project / "kept/file").read_text()
        self.expect(kept == "k\n", f"the mount that is only read has {kept}")
        requests = self.world.requests()
        reached = {name for name, _, _ in requests} & set(self.names.values())
        self.expect(len(reached) == 4, f"the control: only {reached} were reached")
        for request in requests:
            self.check_request(*request)

    def check_request(self, name: str, head: str, body: str) -> None:
        """A real value is in its header at its host, alone; nothing else comes that no rule allows."""
        fields = careless_server.fields_of(head.encode("latin-1"))
        request = head.partition(" HTTP/1.1\r\n")[0]
        good = "rival" not in head + body and "attacker" not in head + body
        if name == self.names["managed"]:
            good &= request == "POST /v1/messages" and "authorization" not in fields
            good &= fields.get("x-api-key") == [REAL["ANTHROPIC_API_KEY"]]
        elif name == self.names["second"]:
            good &= request.startswith("GET /repos/acme/") and "x-api-key" not in fields
            good &= fields.get("authorization") == [f"Bearer {REAL['GH_TOKEN']}"]
        else:
            good &= not [value for value in REAL.values() if value in head + body]
        self.expect(good, f"{name} got {head!r} {body!r}")


@pytest.mark.skipif(not can_make_namespaces(), reason="this host lets this user make no namespaces")
def test_no_attempt_gets_out_in_any_state(world: World, tmp_path: Path) -> None:
    cases = [case for case in load_cases() if case.kind == "an allowed name that leads inward"]
    with start_stage(tmp_path, {host_of(case): case.value for case in cases}) as staged:
        escapes = prepare(staged, tmp_path)
        escapes.up()
        held = staged.run(escapes.project, "echo $ANTHROPIC_API_KEY $GH_TOKEN").ok().out.split()
        escapes.names["held"], escapes.names["held_second"] = held
        escapes.attack("fresh")
        escapes.search("fresh")
        staged.sandbox("down", cwd=escapes.project).ok()

        escapes.up()
        escapes.attack("restored")
        escapes.change()
        escapes.attack("live-changed")
        escapes.search("live-changed")
        escapes.lose_guestd()
        staged.sandbox("down", cwd=escapes.project).ok()
        escapes.look_outside()
    assert not escapes.problems, "\n".join(escapes.problems)


def prepare(staged: Staged, base: Path) -> Escapes:
    outside = base / "outside"
    outside.mkdir()
    (outside / "secret").write_text("the host's\n")
    project = staged.project(FILE.format(planted=f"built-{os.urandom(12).hex()}"), {"kept/file": "k\n"})
    names = {
        "managed": "api.anthropic.com", "second": "api.github.com", "spliced": "other.example.com",
        "taken": "taken.example.com", "denied": "no.wild.example.com", "outside": str(outside),
        "host": escape_stage.HOST, "vendor": escape_stage.VENDOR,
    }  # fmt: skip
    return Escapes(staged, project, outside, names, time.time())


def host_of(case: Case) -> str:
    """The name that an attempt of "an allowed name that leads inward" asks for."""
    text = "".join(letter if letter.isalnum() else "-" for letter in case.value).strip("-")
    return f"a{len(case.value)}-{text}.inward.example.com"
