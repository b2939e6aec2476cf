"""The sandbox that is attacked: its names, how it is asked, made and ended."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.attacks.project import NAME, NAMES, REAL, file_text, write_files
from engine.attacks.room import END_S, UP_S, Ran, Room, Stage
from engine.errors import EngineError

# Commands that take the sandbox as an option, and as their first argument.
_BY_OPTION = frozenset({"exec", "diff", "apply", "pull", "deny"})
_BY_ARGUMENT = frozenset({"journal", "pause", "resume", "stop", "start", "fork", "down", "stats"})
_BUILDS = 3
_PLACEHOLDERS = {"held": "ANTHROPIC_API_KEY", "held_second": "GH_TOKEN", "held_third": "OPENAI_API_KEY"}


@dataclass
class Trial:
    """`problems` are those of a transition: a state that was not what it is called.

    `word` is planted in the guest, so that a search is known to find. `paused` is what was found in a paused sandbox,
    `notes` are what checks leave for others. `name` is the sandbox that is attacked; where that is a clone, the one
    that it is a clone of runs beside it, and is not counted.
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
    name: str = NAME

    @property
    def instance(self) -> Path:
        return self.room.state / "instances" / self.name

    @property
    def beside(self) -> Path:
        """The directory that holds the project and the other mounts."""
        return self.project.parent

    def call(self, *argv: str, **options: Any) -> Ran:
        return self.room.sandbox(*self.words(argv), cwd=self.project, **options)

    def words(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """The command, with the name of the sandbox in it."""
        command, *rest = argv
        if command in _BY_OPTION:
            return (command, "-n", self.name, *rest)
        return (command, self.name, *rest) if command in _BY_ARGUMENT else argv

    def root(self, script: str, stdin: str | None = None, **options: Any) -> Ran:
        """A shell's script as root in the guest."""
        words = ("exec", *(["-i"] if stdin is not None else []), "-u", "root", "-w", "/", "--", "sh", "-c", script)
        return self.call(*words, stdin=stdin, **options)

    def journal(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.call("journal", "--json").ok().out.splitlines()]

    def supervisor(self) -> int:
        return int(json.loads((self.instance / "instance.json").read_text())["pid"])

    def boot_id(self) -> str:
        return self.root("cat /proc/sys/kernel/random/boot_id").ok().out

    def expect(self, good: object, what: str) -> None:
        if not good:
            self.problems.append(what)

    def plant(self) -> None:
        """Put the word where a search of the memory, and of the disk, has to find it."""
        places = "/srv/planted /dev/shm/planted"
        # What the setup wrote is in the snapshot; of this the sandbox's own disk has what it happens to write anew.
        words = " ".join([self.word, *(REAL.values() if self.loose else ())])
        self.root(f"echo {words} | tee {places} > /dev/null; sync; cat {places}").ok()

    def up(self) -> None:
        """Raises EngineError if it does not start."""
        self.call("up", "-d", "--yes", "--progress", "plain", timeout_s=UP_S).ok()
        if "held" not in self.names:
            words = " ".join(f"${variable}" for variable in _PLACEHOLDERS.values())
            held = self.call("exec", "--", "sh", "-c", f"echo {words}").ok().out.split()
            if len(held) != len(_PLACEHOLDERS):
                raise EngineError("the sandbox to attack has no placeholders of its secrets")
            self.names |= dict(zip(_PLACEHOLDERS, held, strict=True))

    def clone(self) -> None:
        """Fork the one that runs, which is not counted from now on, and go on with its clone. Raises EngineError."""
        self.name = NAME
        self.room.set_aside()
        said = json.loads(self.call("fork", "--json", timeout_s=UP_S).ok().out)
        self.name = said["clones"][0]["name"]
        self.names["clone"] = self.name

    @property
    def is_clone(self) -> bool:
        return self.name != NAME

    def renew(self) -> None:
        """Make it anew, after it has ended. Raises EngineError."""
        self.clone() if self.is_clone else self.up()

    def down(self) -> None:
        self.call("down", "--yes").ok()

    def await_word(self, word: str, longest_s: float) -> bool:
        """Whether the guest has asked the gateway for a name that begins with `word`, in time."""
        places = [self.instance / name for name in ("journal.jsonl", "journal.jsonl.1")]
        return self.wait_for(lambda: any(word in path.read_text() for path in places if path.exists()), longest_s)

    def wait_for(self, seen: Callable[[], bool], longest_s: float = END_S) -> bool:
        """Whether it was seen in time."""
        deadline = time.monotonic() + longest_s
        while not seen():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True


def prepare(room: Room, *, loose: bool = False) -> Trial:
    """Everything on the host's side: project, mounts, a directory outside of them, values of secrets.

    Raises EngineError. The stage comes later: without it there is a network, and what is needed can be built.
    """
    trial = Trial(
        room, Stage(room.base / "stage"), room.base / "host" / "project", room.base / "host" / "outside", loose
    )
    trial.planted = f"built-{os.urandom(12).hex()}"
    trial.names["outside"] = str(trial.outside)
    write_files(trial.project, file_text(trial.planted, loose=loose))
    set_values(trial)
    return trial


def set_values(trial: Trial) -> None:
    """Of all secrets. Raises EngineError."""
    for name, value in REAL.items():
        trial.call("secret", "set", name, stdin=f"{value}\n").ok()


def build(trial: Trial) -> None:
    """What the stage has no network for: tools, image, the steps of the file.

    On a busy host a machine may miss a bound: it is tried three times. Raises EngineError. Waits UP_S for each.
    """
    words = ("build", "--yes", "--progress", "plain")
    for _ in range(_BUILDS - 1):
        if trial.call(*words, timeout_s=UP_S).code == 0:
            return
    trial.call(*words, timeout_s=UP_S).ok()


def words_of(text: str) -> str:
    """What a guest or a program said, without control characters, for a report."""
    return re.sub(r"[^\x20-\x7e\n]", "?", text)
