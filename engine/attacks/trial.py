"""The sandbox that is attacked: its file, what lies around it on the host, and how it is brought into each state."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.attacks import stage as around
from engine.attacks.case import Case
from engine.attacks.room import END_S, UP_S, Ran, Room, Stage
from engine.attacks.value_search import forms, in_files
from engine.errors import EngineError

NAME = "attacked"
REAL = {"anthropic": "sk-ant-api03-real-and-never-in-the-guest", "github": "ghp_realAndNeverInTheGuest0123"}
HIDDEN = "hidden from the guest"
# `loose` is the control: a file that allows what the other one forbids.
FILE = """\
version: "1"
name: {name}
machine: {{cpus: 2, memory: 2GiB, disk: 20GiB}}
mounts:
  - {{source: ., target: /workspace{protected}}}
  - {{source: ./kept, target: /kept, mode: {kept_mode}}}
  - {{source: ../raw, target: /raw{guarded}}}
  - ../copied:/copied:clone
secrets: {{anthropic: {{env: ANTHROPIC_API_KEY}}, github: {{env: GH_TOKEN}}}}
endpoints:
  - {{host: api.anthropic.com, secret: anthropic, methods: [POST], paths: [/v1/messages]}}
  - {{host: api.github.com, secret: github, methods: [GET], paths: ["/repos/acme/**"]}}
  - other.example.com
  - taken.example.com
  - "*.wild.example.com"
  - {{host: no.wild.example.com, deny: true}}
  - "*.inward.example.com"
{more}setup: ["echo {planted} > ~/planted"]
"""
GUARDED = ', hide: ["*.pem", private/, .env]'
LOOSE = "  - evil.example.net\n  - dns.google\n"
TARGETS = [
    *("10.0.2.2", "10.0.2.3", "10.0.2.4", "127.0.0.1", "169.254.169.254", "1.1.1.1", "255.255.255.255"),
    *("10.0.2.255", "224.0.0.1", "0.0.0.0", around.HOST, around.VENDOR),
]
NAMES = {
    "managed": "api.anthropic.com", "second": "api.github.com", "spliced": "other.example.com",
    "taken": "taken.example.com", "denied": "no.wild.example.com", "host": around.HOST, "vendor": around.VENDOR,
    "hidden": HIDDEN,
}  # fmt: skip
SETTING = {
    "gateway": {"80": ["10.0.2.100", 80], "443": ["10.0.2.100", 443]}, "canary": around.CANARY, "targets": TARGETS
}  # fmt: skip
# It holds a connection, which a change of the endpoints must cut.
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
# state -> (what it is, for the page). A case names those that it is tried in; none is each of them but `revoked`.
STATES = {
    "fresh": "a sandbox that was just made",
    "resumed": "it was paused to the disk, and resumed",
    "restored": "another one, from the snapshot of the first",
    "restarted": "its supervisor was killed, and `up` made it anew",
    "live-changed": "the endpoints of the running sandbox were changed",
    "revoked": "a credential was removed while it ran",
    "forked": "a copy of a running sandbox",
}
LATER = {"forked": "no attempt has been made in a clone yet"}


def inward_names(cases: list[Case]) -> dict[str, str]:
    """The names that lead inward, of the attempts that ask for them."""
    return {host_of(case): case.value for case in cases if case.kind == "an allowed name that leads inward"}


def host_of(case: Case) -> str:
    """The name that such an attempt asks for."""
    text = "".join(letter if letter.isalnum() else "-" for letter in case.value).strip("-")
    return f"a{len(case.value)}-{text}.inward.example.com"


@dataclass
class Trial:
    """`problems` are those of a transition: a state that was not what it is called.

    `word` is planted in the guest, so that a search is known to find. `paused` is what was found in a paused sandbox,
    `notes` are what checks leave for others.
    """

    room: Room
    stage: Stage
    project: Path
    outside: Path
    loose: bool = False
    names: dict[str, str] = field(default_factory=lambda: dict(NAMES))
    planted: str = ""
    since: float = field(default_factory=time.time)
    problems: list[str] = field(default_factory=list)
    word: str = field(default_factory=lambda: f"planted-{os.urandom(12).hex()}")
    paused: set[str] = field(default_factory=set)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def instance(self) -> Path:
        return self.room.state / "instances" / NAME

    @property
    def beside(self) -> Path:
        """The directory that holds the project and the other mounts."""
        return self.project.parent

    def call(self, *argv: str, **options: Any) -> Ran:
        return self.room.sandbox(*argv, cwd=self.project, **options)

    def root(self, script: str, **options: Any) -> Ran:
        return self.room.root(self.project, script, **options)

    def supervisor(self) -> int:
        return int(json.loads((self.instance / "instance.json").read_text())["pid"])

    def boot_id(self) -> str:
        return self.root("cat /proc/sys/kernel/random/boot_id").ok().out

    def expect(self, good: object, what: str) -> None:
        if not good:
            self.problems.append(what)

    def plant(self) -> None:
        """Put the word where a search of the memory, and of the disk, has to find it."""
        places = "/root/planted /dev/shm/planted"
        self.root(f"echo {self.word} | tee {places} > /dev/null; sync; cat {places}").ok()

    def up(self) -> None:
        """Raises EngineError if it does not start."""
        self.call("up", "-d", "--yes", "--progress", "plain", timeout_s=UP_S).ok()
        if "held" not in self.names:
            held = self.call("exec", "--", "sh", "-c", "echo $ANTHROPIC_API_KEY $GH_TOKEN").ok().out.split()
            if len(held) != 2:
                raise EngineError("the sandbox to attack has no placeholders of its secrets")
            self.names["held"], self.names["held_second"] = held

    def down(self) -> None:
        self.call("down", "--yes").ok()

    def enter_state(self, state: str) -> None:
        """From whatever state there is. Raises EngineError if there is no way there."""
        ways: Mapping[str, Callable[[], None]] = {
            "fresh": self.up, "resumed": self._resume, "restored": self._restore, "restarted": self._restart,
            "live-changed": self._change, "revoked": self._revoke,
        }  # fmt: skip
        ways[state]()

    def _resume(self) -> None:
        machine = self.boot_id()
        self.plant()
        self.call("pause").ok()
        needles = {f"{name} {form}": data for name, value in REAL.items() for form, data in forms(value).items()}
        paused = in_files([self.instance], needles | {"planted": self.word.encode()})
        self.paused = set().union(*paused.values())
        self.call("resume", timeout_s=UP_S).ok()
        self.expect(self.boot_id() == machine, "it was not the same machine after `resume`")

    def _restore(self) -> None:
        self.down()
        self.up()

    def _restart(self) -> None:
        os.kill(self.supervisor(), signal.SIGKILL)
        if left := self.room.left():
            self.problems.append(f"after its supervisor was killed there are {left[:5]}")
        self.up()

    def _change(self) -> None:
        """Take a name away while a connection to it is open."""
        if self.loose:
            return
        machine = self.boot_id()
        file = self.project / "Sandboxfile.yaml"
        program = [sys.executable, "-m", "engine.cli.main"]
        holding = self.room.start("exec", "--", "python3", "-c", HOLD, cwd=self.project, program=program)
        with holding:
            assert holding.stdout is not None
            self.expect(holding.stdout.readline() == b"open\n", "the name to be taken away was not reached before")
            file.write_text(file.read_text().replace("  - taken.example.com\n", ""))
            self.up()
            try:
                self.expect(holding.wait(END_S) == 0, "the connection to it was not cut")
            except subprocess.TimeoutExpired:
                holding.kill()
                self.problems.append("the connection to it was not cut")
        reasons = [line["reason"] for line in self.room.journal(self.project)]
        self.expect("no longer allowed; cut off" in reasons, "the journal does not say that the connection was cut")
        self.expect(self.boot_id() == machine, "the change was not live")

    def _revoke(self) -> None:
        if not self.loose:
            self.call("secret", "rm", "anthropic").ok()


def prepare(room: Room, *, loose: bool = False) -> Trial:
    """Everything on the host's side: project, mounts, a directory outside of them, values of secrets.

    Raises EngineError. The stage comes later: without it there is a network, and what is needed can be built.
    """
    trial = Trial(
        room, Stage(room.base / "stage"), room.base / "host" / "project", room.base / "host" / "outside", loose
    )
    trial.planted = f"built-{os.urandom(12).hex()}"
    trial.names["outside"] = str(trial.outside)
    write_files(trial)
    for name, value in REAL.items():
        room.sandbox("secret", "set", name, cwd=trial.project, stdin=f"{value}\n").ok()
    return trial


def write_files(trial: Trial) -> None:
    loose = trial.loose
    # A credential that somebody has typed into a step is what a search for values has to find.
    planted = " ".join([trial.planted, *(REAL.values() if loose else ())])
    words = {"name": NAME, "planted": planted, "kept_mode": "rw" if loose else "ro", "more": LOOSE if loose else ""}
    unprotected = ", protect: false" if loose else ""
    words |= {"guarded": unprotected or GUARDED, "protected": unprotected}
    texts = {
        "project/Sandboxfile.yaml": FILE.format(**words), "project/kept/file": "k\n", "outside/secret": "the host's\n",
        "outside/victim": "victim\n", "outside/sub/x": "x\n", "raw/file": "file\n", "raw/directory/below": "below\n",
        "raw/key.pem": f"{HIDDEN}\n", "raw/private/x": f"{HIDDEN}\n", "raw/.env": f"{HIDDEN}\n", "copied/a.txt": "a\n",
        "copied/d/e.txt": "e\n",
    }  # fmt: skip
    for name, text in texts.items():
        path = trial.beside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("raw", "copied"):
        _git(trial.beside / name, "init", "-q", "-b", "main")
    _git(trial.beside / "copied", "add", "-A")
    _git(trial.beside / "copied", "-c", "user.name=a", "-c", "user.email=a@localhost", "commit", "-qm", "first")
    hook = trial.beside / "raw/.git/hooks/post-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\n")


def _git(directory: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=directory, check=True, capture_output=True)


def build(trial: Trial) -> None:
    """What the stage has no network for: tools, image, the steps of the file.

    Raises EngineError. Waits UP_S at most.
    """
    trial.call("build", "--yes", "--progress", "plain", timeout_s=UP_S).ok()


def words_of(text: str) -> str:
    """What a guest or a program said, without control characters, for a report."""
    return re.sub(r"[^\x20-\x7e\n]", "?", text)
