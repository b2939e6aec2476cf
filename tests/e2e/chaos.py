"""Chaos: commands of a sandbox, in each of which something happens to one of its processes at a random moment.

    python tests/e2e/chaos.py --rounds 300 --seed 7          a summary in the last line, and what was found before it
    python tests/e2e/chaos.py --rounds 50 --seed 7 8 9 10 --lanes 2
    python tests/e2e/chaos.py --seed 7 --only 41             one round of them again

After each round nothing may be left (processes, sockets, mounts, files of its own) and nothing lost (the project, the
cache); the next `up` works, and a command that failed has said why in a line, without a traceback. Linux, and a mount
namespace: the state directory is a small disk whose room can be taken away. Each seed has a process, directories and a
disk of its own; `--lanes` says how many run at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from chaos_faults import Fault, SmallDisk, choose_fault, strike
from own_place import UP, Place, Wrong, commit, end_in_order, place, user_cache

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
    "up": (UP, "down", 2.0),
    "exec": (("exec", "--", "sh", "-c", READING), "up", 1.5),
    "run": (("run", "--yes", "-p", "read it"), "down", 3.0),
    "pause": (("pause",), "up", 1.5),
    "resume": (("resume",), "paused", 2.0),
    "down": (("down",), "up", 1.0),
}
DISK = 1200 << 20
MARKER = "what the agent reads\n"
LONG = 0.02
RESULT = "CHAOS_RESULT"  # where a process of one seed writes what it found
INSIDE = "CHAOS_INSIDE"


@dataclass
class Found:
    """What the rounds came to."""

    rounds: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    failed_and_told: int = 0
    too_late: int = 0
    roused: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: Found) -> None:
        self.rounds += other.rounds
        self.struck += other.struck
        self.missed += other.missed
        self.failed_and_told += other.failed_and_told
        self.too_late += other.too_late
        self.roused += other.roused
        self.wrong += other.wrong
        self.seconds += other.seconds

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.struck.items()))
        return (
            f"{self.rounds} rounds: {kinds}, {self.missed} missed; {self.failed_and_told} commands failed and said"
            f" why; {self.too_late} other starts were too slow, on a busy host; {self.roused} lost timers were set"
            f" again; {len(self.wrong)} rounds in which something was wrong"
        )


class Chaos:
    """The rounds of one seed in a place of their own."""

    def __init__(self, base: Path, cache: str, seed: int, long: float, found: Found) -> None:
        self.seed, self.long, self.found = seed, long, found
        self.place = Place(base, cache)
        (base / "config/agents/chaos").mkdir(parents=True)
        (base / "config/agents/chaos/agent.yaml").write_text(AGENT)
        self.write_project()
        self.disk = SmallDisk(self.place.state, DISK)

    def write_project(self) -> None:
        (self.place.project / "Sandboxfile.yaml").write_text(FILE)
        (self.place.project / "marker").write_text(MARKER)

    def round(self, number: int) -> None:
        random = Random(f"{self.seed}/{number}")
        name = random.choice(tuple(COMMANDS))
        argv, state, typical_s = COMMANDS[name]
        fault = choose_fault(random, typical_s, self.long)
        said = f"round {number} of seed {self.seed}: {name}, {fault}"
        began = time.monotonic()
        self.found.rounds += 1
        before, known = self.place.picture(), len(self.place.roused)
        try:
            self.bring_to(state)
            self.act(argv, fault)
            self.place.come_back("/workspace/marker", MARKER)
            self.place.leave()
            self.place.compare(before)
            roused = "".join(f", {line}" for line in self.place.roused[known:])
            print(f"{said} ({time.monotonic() - began:.0f} s){roused}", flush=True)
        except Wrong as wrong:
            print(f"WRONG: {said}: {wrong}\n{self.place.evidence()}", flush=True)
            self.found.wrong.append(said)
            self.clear()

    def bring_to(self, state: str) -> None:
        if state != "down":
            self.place.up()
        if state == "paused":
            self.place.must("pause")

    def act(self, argv: Sequence[str], fault: Fault) -> None:
        process = self.place.start(argv)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(fault.delay_s)
        if strike(fault, self.place.marks, self.disk, lambda: process.poll() is None):
            self.found.struck[fault.kind] += 1
        else:
            self.found.missed += 1
        killed = fault.victim == "command" and fault.kind == "killed"
        self.found.failed_and_told += self.place.judge(self.place.finish(process), killed=killed)

    def clear(self) -> None:
        """After a round in which something was wrong: begin the next one anew."""
        self.place.clear()
        self.write_project()


def run_seed(seed: int, told: argparse.Namespace, found: Found) -> None:
    """All rounds of a seed, in this process, which is in a mount namespace. Raises Wrong where they cannot begin."""
    began = time.monotonic()
    with place("chaos") as base:
        chaos = Chaos(base, user_cache(), seed, told.long, found)
        try:
            chaos.place.build()
            for number in range(told.rounds) if told.only is None else (told.only,):
                if time.monotonic() - began > told.seconds:
                    break
                chaos.round(number)
            if told.verify:
                chaos.place.must("cache", "verify")
        finally:
            found.too_late = chaos.place.too_late
            found.roused = len(chaos.place.roused)
            found.seconds = time.monotonic() - began
            chaos.clear()
            chaos.disk.close()


def run_apart(seed: int) -> tuple[Found, bool]:
    """The rounds of a seed in a process and a mount namespace of their own, and whether they came to their end."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    with place("chaos-result") as base:
        result = base / "result.json"
        environment = {**os.environ, INSIDE: str(seed), RESULT: str(result)}
        inside = ["unshare", *user, "--mount", sys.executable, *sys.argv]
        whole = subprocess.run(inside, env=environment, check=False).returncode == 0
        told = json.loads(result.read_text()) if result.exists() else vars(Found())
    return Found(**{**told, "struck": Counter(told["struck"])}), whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="of each seed")
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--lanes", type=int, default=1, help="how many seeds at once")
    parser.add_argument("--only", type=int, help="this round alone")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no round of a seed after this time")
    parser.add_argument("--long", type=float, default=LONG, help="the share of stops that last 45 s")
    parser.add_argument("--verify", action="store_true", help="verify the whole cache at the end")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write what was found there as well")
    told = parser.parse_args()
    end_in_order()
    if INSIDE in os.environ:
        found = Found()
        try:
            run_seed(int(os.environ[INSIDE]), told, found)
        finally:
            Path(os.environ[RESULT]).write_text(json.dumps(vars(found)))
        return 0
    began, all_of_them = time.monotonic(), Found()
    with ThreadPoolExecutor(told.lanes) as lanes:
        results = dict(zip(told.seed, lanes.map(run_apart, told.seed), strict=True))
    for found, _ in results.values():
        all_of_them.add(found)
    broken = [seed for seed, (_, whole) in results.items() if not whole]
    seeds = ", ".join(map(str, told.seed))
    long = "" if told.long == LONG else f", {told.long:.1%} of the stops for 45 s"
    tree = commit()
    print(
        f"commit {tree}, seed {seeds}{long}, {all_of_them}{f', and {broken} ended early' if broken else ''},"
        f" in {time.monotonic() - began:.0f} s"
    )
    if told.json:
        told.json.write_text(json.dumps({"commit": commit(), "seeds": told.seed, **vars(all_of_them)}, indent=2) + "\n")
    return 1 if all_of_them.wrong or broken else 0


if __name__ == "__main__":
    sys.exit(main())
