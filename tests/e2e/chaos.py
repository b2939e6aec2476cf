"""Chaos: commands of a sandbox, in each of which something happens to one of its processes at a random moment.

    python tests/e2e/chaos.py --rounds 300 --seed 7          a summary in the last line, and what was found before it
    python tests/e2e/chaos.py --seed 7 --only 41             one round of them again

After each round nothing may be left (processes, sockets, mounts, files of its own) and nothing lost (the project, the
cache); the next `up` works, and a command that failed has said why in a line, without a traceback. Linux, and a mount
namespace: the state directory is a small disk whose room can be taken away.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from chaos_faults import Fault, SmallDisk, choose_fault, processes, strike

FILE = """\
version: "1"
name: chaos
agent: {use: chaos}
mounts: [.:/workspace]
"""
AGENT = """\
title: Chaos
summary: an agent that reads a file
evidence: run
install: {version: "1.0.0", steps: [{run: "true"}]}
commands:
  interactive: [sleep, inf]
  headless: [sh, -c, "sleep 0.5; cat /workspace/marker", sh, "{{prompt}}"]
"""
# Each with the state that it begins in, and about how long it takes.
READING = "for i in 1 2 3 4 5; do cat /workspace/marker; sleep 0.2; done"
COMMANDS = {
    "up": ("up", ["up", "-d", "--yes", "--progress", "plain"], "down", 2.0),
    "exec": (
        "exec",
        ["exec", "--", "sh", "-c", READING],
        "up",
        1.5,
    ),
    "run": ("run", ["run", "--yes", "-p", "read it"], "down", 3.0),
    "pause": ("pause", ["pause"], "up", 1.5),
    "resume": ("resume", ["resume"], "paused", 2.0),
    "down": ("down", ["down"], "up", 1.0),
}
PATIENCE_S = 150.0  # nothing takes that long, also where something stood still for 45 s
BUILD_S = 1800.0
DISK = 1200 << 20
MARKER = "what the agent reads\n"
TOLD = re.compile(r"^(error|sandbox|warning): ", re.MULTILINE)


@dataclass(frozen=True)
class Ran:
    code: int | None  # None: it did not end
    out: str
    err: str

    def __str__(self) -> str:
        return f"code {self.code}\n--- stdout\n{self.out[-1500:]}\n--- stderr\n{self.err[-3000:]}"


@dataclass
class Found:
    """What the rounds came to."""

    rounds: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    failed_and_told: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.struck.items()))
        return (
            f"{self.rounds} rounds: {kinds}, {self.missed} too late; {self.failed_and_told} commands failed and said"
            f" why; {len(self.wrong)} rounds in which something was wrong"
        )


class Wrong(Exception):
    """A promise was not kept."""


class Chaos:
    """The rounds of one seed in a directory of their own."""

    def __init__(self, base: Path, cache: str, seed: int) -> None:
        self.base, self.seed = base, seed
        self.project = base / "project"
        self.state, self.runtime, self.temporary = base / "state", base / "run", base / "tmp"
        for directory in (self.project, self.state, self.runtime, self.temporary, base / "config/agents/chaos"):
            directory.mkdir(parents=True, mode=0o700)
        (self.project / "Sandboxfile.yaml").write_text(FILE)
        (self.project / "marker").write_text(MARKER)
        (base / "config/agents/chaos/agent.yaml").write_text(AGENT)
        self.disk = SmallDisk(self.state, DISK)
        self.environment = {
            **os.environ,
            "SANDBOX_STATE_DIR": str(self.state),
            "SANDBOX_RUNTIME_DIR": str(self.runtime),
            "SANDBOX_CONFIG_DIR": str(base / "config"),
            "SANDBOX_CACHE_DIR": cache,
            "SANDBOX_CACHE_SIZE": "none",
            "TMPDIR": str(self.temporary),
        }
        self.marks = (str(self.state), str(self.runtime))
        self.found = Found()

    # commands

    def start(self, argv: list[str]) -> subprocess.Popen[str]:
        with (self.base / "out").open("w") as out, (self.base / "err").open("w") as err:
            return subprocess.Popen(
                [sys.executable, "-m", "engine.cli.main", *argv],
                cwd=self.project,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self.environment,
                text=True,
            )

    def finish(self, process: subprocess.Popen[str], patience_s: float = PATIENCE_S) -> Ran:
        try:
            code: int | None = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
        return Ran(code, (self.base / "out").read_text(), (self.base / "err").read_text())

    def sandbox(self, *argv: str) -> Ran:
        return self.finish(self.start(list(argv)))

    def must(self, *argv: str) -> Ran:
        ran = self.sandbox(*argv)
        if ran.code != 0:
            raise Wrong(f"`{' '.join(argv)}` failed: {ran}")
        return ran

    # one round

    def round(self, number: int) -> None:
        random = Random(f"{self.seed}/{number}")
        name, argv, state, typical_s = COMMANDS[random.choice(tuple(COMMANDS))]
        fault = choose_fault(random, typical_s)
        said = f"round {number}: {name}, {fault}"
        print(said, flush=True)
        self.found.rounds += 1
        before = self.picture()
        try:
            self.bring_to(state)
            self.act(argv, fault)
            self.come_back()
            self.leave()
            if (after := self.picture()) != before:
                raise Wrong(f"not as before: {sorted(before.items() ^ after.items())}")
        except Wrong as wrong:
            print(f"WRONG: {said}: {wrong}\n{self.evidence()}", flush=True)
            self.found.wrong.append(said)
            self.clear()

    def bring_to(self, state: str) -> None:
        if state != "down":
            self.must("up", "-d", "--yes", "--progress", "plain")
        if state == "paused":
            self.must("pause")

    def act(self, argv: list[str], fault: Fault) -> None:
        process = self.start(argv)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(fault.delay_s)
        struck = strike(fault, self.marks, self.disk, lambda: process.poll() is None)
        if struck:
            self.found.struck[fault.kind] += 1
        else:
            self.found.missed += 1
        ran = self.finish(process)
        text = ran.out + ran.err + self.logs()
        if "Traceback" in text:
            raise Wrong(f"a traceback: {ran}\n{self.logs()[-3000:]}")
        if ran.code is None:
            raise Wrong(f"it did not end in {PATIENCE_S:.0f} s: {ran}")
        if ran.code and ran.code > 0:
            if not TOLD.search(ran.err):
                raise Wrong(f"it failed and did not say why: {ran}")
            self.found.failed_and_told += 1
        elif ran.code and not (fault.victim == "command" and fault.kind == "killed"):
            raise Wrong(f"it was ended: {ran}")

    def come_back(self) -> None:
        """What is there now can be listed, and the next `up` works, if need be with what it advises."""
        self.must("ls", "--json")
        ran = self.must("up", "-d", "--yes", "--progress", "plain")
        if "--recreate" in ran.out + ran.err:
            self.must("up", "-d", "--yes", "--progress", "plain", "--recreate")
        read = self.must("exec", "--", "cat", "/workspace/marker")
        if read.out != MARKER:
            raise Wrong(f"the project is not what it was: {read}")
        if "Traceback" in self.logs():
            raise Wrong(f"a traceback in the log: {self.logs()[-3000:]}")

    def leave(self) -> None:
        self.must("down")
        deadline = time.monotonic() + 30
        while (left := self.left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        if left:
            raise Wrong(f"left: {left}")

    # what there is

    def left(self) -> list[str]:
        """Processes, sockets, records and files of nobody."""
        found = [f"process {pid}: {command}" for pid, command in processes(self.marks).items()]
        found += [str(path) for path in self.runtime.iterdir() if path.name != "README"]
        found += [str(path) for path in (self.state / "instances").glob("*")]
        return found + [str(path) for path in self.temporary.iterdir()]

    def picture(self) -> dict[str, str]:
        """The project's files, and mounts of this namespace."""
        files = {
            str(path.relative_to(self.project)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.project.rglob("*")
            if path.is_file()
        }
        mounts = Path("/proc/self/mountinfo").read_text()
        return {**files, "mounts": str(mounts.count(str(self.base)))}

    def logs(self) -> str:
        found = ""
        for path in (*self.state.glob("instances/*/supervisor.log"), *self.state.glob("failed/*/supervisor.log")):
            with contextlib.suppress(OSError):
                found += path.read_text(errors="replace")
        return found

    def evidence(self) -> str:
        left = "\n".join(self.left())
        records = [path.read_text() for path in self.state.glob("instances/*/instance.json")]
        return f"--- left\n{left}\n--- log\n{self.logs()[-2000:]}\n--- record\n{records}"

    def clear(self) -> None:
        """After a round in which something was wrong: begin the next one anew."""
        self.sandbox("down", "--all", "--yes")
        for pid in processes(self.marks):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        for directory in (self.state / "instances", self.state / "failed", self.temporary):
            shutil.rmtree(directory, ignore_errors=True)
        self.temporary.mkdir(exist_ok=True)
        (self.project / "Sandboxfile.yaml").write_text(FILE)
        (self.project / "marker").write_text(MARKER)


@contextlib.contextmanager
def place() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="this round alone")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no round after this time")
    parser.add_argument("--verify", action="store_true", help="verify the whole cache at the end")
    told = parser.parse_args()
    if "CHAOS_INSIDE" not in os.environ:
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        inside = ["unshare", *user, "--mount", sys.executable, *sys.argv]
        return subprocess.run(inside, env={**os.environ, "CHAOS_INSIDE": "1"}, check=False).returncode
    cache = os.environ.get("SANDBOX_CACHE_DIR") or str(Path.home() / ".cache/sandbox")
    began = time.monotonic()
    with place() as base:
        chaos = Chaos(base, cache, told.seed)
        try:
            built = chaos.finish(chaos.start(["build", "--yes"]), BUILD_S)  # so that the rounds are warm
            if built.code != 0:
                raise Wrong(f"`build` failed: {built}")
            chaos.must("up", "-d", "--yes", "--progress", "plain")
            chaos.must("down")
            for number in range(told.rounds) if told.only is None else (told.only,):
                if time.monotonic() - began > told.seconds:
                    break
                chaos.round(number)
            if told.verify:
                chaos.must("cache", "verify")
        finally:
            chaos.clear()
            chaos.disk.close()
    print(f"seed {told.seed}, {chaos.found}, in {time.monotonic() - began:.0f} s")
    return 1 if chaos.found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
