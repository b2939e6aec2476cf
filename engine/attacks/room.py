"""A throw-away place for one sandbox that is attacked: directories, a stage around it, and the command line.

Nothing of the user's is in it but the cache, which only gets what any `sandbox up` puts there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import EngineError
from vmm.process import scratch_directory

UP_S, CALL_S, END_S, STAGE_S = 1800.0, 300.0, 60.0, 60.0
NEEDED = ("unshare", "nsenter", "ip", "mount", "openssl", "git")
_CLI = (sys.executable, "-m", "engine.cli.main")
_NO_KEYRING = "keyring.backends.null.Keyring"


@dataclass(frozen=True)
class Ran:
    """A finished command; no `code` means that it did not end in time."""

    argv: tuple[str, ...]
    code: int | None
    out: str
    err: str
    seconds: float

    def ok(self) -> Ran:
        """Raises EngineError with the command's words if it failed."""
        if self.code != 0:
            raise EngineError(f"sandbox {self.argv[0]} ended with {self.code}", (self.err or self.out)[-2000:])
        return self


@dataclass
class Room:
    """`variables` are the environment of every command; `within` are the words that take one onto the stage.

    `aside` are the processes and names that were set aside.
    """

    base: Path
    variables: dict[str, str]
    within: list[str] = field(default_factory=list)
    aside: frozenset[str] = frozenset()

    @property
    def state(self) -> Path:
        return Path(self.variables["SANDBOX_STATE_DIR"])

    @property
    def cache(self) -> Path:
        return Path(self.variables["SANDBOX_CACHE_DIR"])

    def enter(self, cwd: Path) -> list[str]:
        """The words before a program that is to run on the stage, in a directory."""
        return [*self.within, f"--wdns={cwd}", "--"] if self.within else []

    def sandbox(self, *argv: str, cwd: Path, timeout_s: float = CALL_S, stdin: str | None = None) -> Ran:
        """Run `sandbox ARGV...`; waits `timeout_s` at most."""
        began = time.monotonic()
        command = [*self.enter(cwd), *_CLI, *argv]
        text = None if stdin is None else stdin.encode()
        given = subprocess.DEVNULL if text is None else None
        try:
            done = subprocess.run(
                command, cwd=cwd, input=text, stdin=given, capture_output=True, timeout=timeout_s, env=self.variables
            )
        except subprocess.TimeoutExpired as error:
            out, err = ((part or b"").decode(errors="replace") for part in (error.stdout, error.stderr))
            return Ran(argv, None, out, err, time.monotonic() - began)
        out, err = (part.decode(errors="replace") for part in (done.stdout, done.stderr))
        return Ran(argv, done.returncode, out, err, time.monotonic() - began)

    def start(self, *argv: str, cwd: Path) -> subprocess.Popen[bytes]:
        """Start a command and leave it running; its output is a pipe."""
        return subprocess.Popen(
            [*self.enter(cwd), *_CLI, *argv],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self.variables,
        )

    def set_aside(self) -> None:
        """Count no more what is there now: `processes` and `left` are of what comes beside it."""
        self.aside = frozenset()
        self.aside = frozenset([*map(str, self.processes()), *self._names()])

    def processes(self) -> dict[int, str]:
        """The command line of each live process that was started for this room, by its directories' names."""
        marks = (self.variables["SANDBOX_STATE_DIR"].encode(), self.variables["SANDBOX_RUNTIME_DIR"].encode())
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (directory / "cmdline").read_bytes()
                known = command + (directory / "environ").read_bytes()
                if command and directory.name not in self.aside and any(mark in known for mark in marks):
                    found[int(directory.name)] = command.replace(b"\0", b" ").decode(errors="replace")
        return found

    def left(self) -> list[str]:
        """What is there of a sandbox after `down`: processes and sockets. Waits END_S for nothing to be left."""
        deadline = time.monotonic() + END_S
        while True:
            seen = [*self.processes().values(), *(name for name in self._names() if name not in self.aside)]
            if not seen or time.monotonic() > deadline:
                return seen
            time.sleep(0.1)

    def _names(self) -> list[str]:
        """What is in the directory of sockets."""
        runtime = Path(self.variables["SANDBOX_RUNTIME_DIR"])
        return [str(path) for path in runtime.iterdir() if path.name != "README"] if runtime.exists() else []


# Where this process is killed, its guard ends the sandboxes: their sockets are gone by then, so by their records.
_END = (
    *("sh", "-c"),
    'state=$(ls -d "$PWD"/room-*/state) || exit 0; export SANDBOX_STATE_DIR="$state"; "$@" down --all --yes',
    "sh",
)


@contextmanager
def open_room(environment: Mapping[str, str], cache: Path) -> Iterator[Room]:
    """A room without a stage. Its sandboxes end with it, however it ends, and its directories are removed."""
    variables = {name: value for name, value in environment.items() if not name.startswith(("SANDBOX_", "XDG_"))}
    with (
        scratch_directory("sb-", Path("/tmp")) as short,  # the path of a socket is short
        scratch_directory("sandbox-attack-", None, [*_END, *_CLI], variables) as outer,
        tempfile.TemporaryDirectory(prefix="room-", dir=outer) as inner,  # it removes what has no permissions, too
    ):
        # A process with one of these paths belongs to a sandbox: the guards of the directories above have them not.
        base, runtime = Path(inner), short / "r"
        runtime.mkdir(mode=0o700)
        for name in ("ANTHROPIC_API_KEY", "GH_TOKEN", "GITHUB_TOKEN", "OPENAI_API_KEY"):  # the room's keys are its own
            variables.pop(name, None)
        home = Path(base, "home")
        home.mkdir()
        variables |= {
            "HOME": str(home), "SANDBOX_CACHE_DIR": str(cache), "SANDBOX_CACHE_SIZE": "none",
            "SANDBOX_STATE_DIR": f"{base}/state", "SANDBOX_RUNTIME_DIR": str(runtime),
            "SANDBOX_CONFIG_DIR": f"{base}/config", "PYTHON_KEYRING_BACKEND": _NO_KEYRING,
        }  # fmt: skip
        room = Room(base, variables)
        try:
            yield room
        finally:
            room.within = []
            room.sandbox("down", "--all", "--yes", cwd=room.base)


def why_not() -> str:
    """Why no stage can be made on this host; "" if it can. Takes about 10 ms."""
    if not sys.platform.startswith("linux"):
        return "the attacks need Linux: they run in network namespaces in which every frame is heard"
    if missing := [name for name in NEEDED if not shutil.which(name)]:
        return f"the attacks need {', '.join(missing)}, which this host does not have"
    tried = subprocess.run([*_unshare(), "ip", "link", "set", "lo", "up"], capture_output=True, text=True)
    if tried.returncode:
        return f"this host lets this user make no namespaces: {tried.stderr.strip()[-200:]}"
    return ""


def _unshare() -> list[str]:
    return ["unshare", *([] if os.geteuid() == 0 else ["-U", "--map-current-user", "--keep-caps"]), "-m", "-n"]


def _without_proxies(variables: Mapping[str, str]) -> dict[str, str]:
    """On the stage there is no way to the host's proxy."""
    return {name: value for name, value in variables.items() if not name.lower().endswith("_proxy")}


@dataclass(frozen=True)
class Stage:
    """What its servers got, and what was heard that nobody should have sent (stage.py)."""

    directory: Path

    def requests(self) -> list[tuple[str, str, str]]:
        """Name in the hello, head, body."""
        log = self.directory / "requests"
        return [tuple(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []

    def heard(self) -> list[str]:
        return (self.directory / "heard").read_text().splitlines()


@contextmanager
def enter_stage(room: Room, inward: Mapping[str, str]) -> Iterator[Stage]:
    """Put the room's commands on a stage: `inward` are names that lead to addresses within.

    Raises EngineError if it cannot be made.
    """
    directory = room.base / "stage"
    directory.mkdir()
    (directory / "inward.json").write_text(json.dumps(dict(inward)))
    argv = [*_unshare(), sys.executable, "-m", "engine.attacks.stage", str(directory)]
    outside = {name: value for name, value in room.variables.items() if not name.startswith("SANDBOX_")}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=outside) as stage:
        assert stage.stdin is not None and stage.stdout is not None
        if stage.stdout.readline() != "ready\n":
            raise EngineError("the stage of the attacks could not be made")
        user = [] if os.geteuid() == 0 else ["-U", "--preserve-credentials"]
        room.within = ["nsenter", "-t", str(stage.pid), *user, "-m", "-n"]
        kept = room.variables
        room.variables = {**_without_proxies(kept), "SSL_CERT_FILE": f"{directory}/ca.crt"}
        try:
            yield Stage(directory)
        finally:
            room.sandbox("down", "--all", "--yes", cwd=room.base)
            room.within, room.variables = [], kept
            stage.stdin.close()
            try:
                stage.wait(STAGE_S)
            except subprocess.TimeoutExpired:
                stage.kill()
