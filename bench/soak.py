"""One machine after another, and some of their processes killed: is anything lost or left, and does it get slower?

    python bench/soak.py --cycles 500 --kills 100 --seed 7
    python bench/soak.py --cycles 500 --kills 100 --seconds 3600 --json soak.json

Each cycle is `up -d`, `exec` and `down` of the quickstart with its two services, its workspace as a clone, in
directories of its own. In as many of them as `--kills` says, a process of the sandbox, whichever, gets SIGKILL at a
random moment; the command that this happened to must say why it failed, and the next `up` must work. After each cycle
there may be no process, socket, mount, record or temporary file of it, and the project is what it was. The summary
says what the state and the cache directory have gained from the first cycle to the last (others who use the same cache
at that time add to it; SANDBOX_CACHE_DIR names another), and how long the first cycles took, and the last.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from many import copy_as_clone
from own_place import UP, Place, Size, Wrong, commit, end_in_order, place, processes, user_cache
from run import say
from series import load_average, machine_facts

EDGE = 20  # cycles at the beginning, and at the end
SAY_EVERY = 20
FILE = "agent.sh"  # of the workspace
# With about how long each takes.
COMMANDS: tuple[tuple[Sequence[str], float], ...] = (
    (UP, 1.5),
    (("exec", "--", "cat", f"/workspace/{FILE}"), 0.4),
    (("down",), 0.8),
)
# What a process is called here, by a word of its command line; the first that fits.
NAMES = {
    "engine.cli.main": "command",
    "engine.supervisor": "supervisor",
    "qemu-system": "QEMU",
    "passt": "passt",
    "guard.py": "guard",
}


@dataclass(frozen=True)
class Kill:
    """`delay_s` after the command of that number has begun, the process at `which` (0 to 1) of those there are dies."""

    command: int
    delay_s: float
    which: float

    @classmethod
    def choose(cls, random: Random) -> Kill:
        command = random.randrange(len(COMMANDS))
        return cls(command, random.uniform(0, COMMANDS[command][1] * 1.2), random.random())

    def __str__(self) -> str:
        return f"{COMMANDS[self.command][0][0]}, {self.delay_s:.2f} s, {self.which:.2f}"


@dataclass
class Found:
    """What the cycles came to. `seconds` are those of whole cycles in which nobody was killed."""

    cycles: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    too_late: int = 0
    failed_and_told: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    state: Size = field(default_factory=Size)
    cache: Size = field(default_factory=Size)
    new_in_cache: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.killed.most_common())
        return (
            f"{self.cycles} cycles, {self.killed.total()} kills ({kinds}; {self.missed} more were too late),"
            f" {self.failed_and_told} commands failed and said why; {self.too_late} other starts were too slow, on a"
            f" busy host; {len(self.wrong)} cycles in which something was wrong;"
            f" state {self.state}, cache {self.cache}; {self.durations()}"
        )

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "state": vars(self.state), "cache": vars(self.cache)}

    def durations(self) -> str:
        if not self.seconds:
            return "no whole cycle"
        first, last = self.seconds[:EDGE], self.seconds[-EDGE:]
        return (
            f"a cycle took {statistics.median(first):.2f} s (median of the first {len(first)} without a kill) and"
            f" {statistics.median(last):.2f} s (of the last {len(last)})"
        )


class Soak:
    """The cycles in a place of their own."""

    def __init__(self, base: Path, seed: int) -> None:
        self.place = Place(base, user_cache())
        copy_as_clone(self.place.project, "quickstart")  # its images are known by its name
        self.seed = seed
        self.content = (self.place.project / "workspace" / FILE).read_text()
        self.found = Found()

    def run(self, cycles: int, kills: int, seconds: float) -> None:
        """Build what has to be built, then one cycle after another. Raises Wrong where the first cannot begin."""
        self.place.build()  # what there is only once is there now, too
        struck = set(Random(self.seed).sample(range(cycles), min(kills, cycles)))
        state, cache, entries = Size.of(self.place.state), Size.of(self.place.cache), self._cached()

        def measure() -> None:
            self.found.state = Size.of(self.place.state) - state
            self.found.cache = Size.of(self.place.cache) - cache
            self.found.too_late = self.place.too_late
            self.found.new_in_cache = sorted(self._cached() - entries)

        began = time.monotonic()
        for number in range(cycles):
            if time.monotonic() - began > seconds:
                break
            self.cycle(number, Kill.choose(Random(f"{self.seed}/{number}")) if number in struck else None)
            if (number + 1) % SAY_EVERY == 0:
                measure()
                say(f"load {load_average()}, {self.found}")
        measure()

    def _cached(self) -> set[str]:
        return {str(path.relative_to(self.place.cache)) for path in self.place.cache.glob("*/*")}

    def cycle(self, number: int, kill: Kill | None) -> None:
        said = f"cycle {number} of seed {self.seed}" + (f", kill: {kill}" if kill else "")
        before, began = self.place.picture(), time.monotonic()
        self.found.cycles += 1
        try:
            if kill is None:
                self._pass()
                self.found.seconds.append(time.monotonic() - began)
            else:
                self._strike(kill)
                self.place.come_back(f"/workspace/{FILE}", self.content)
            self.place.leave()
            self.place.compare(before)
        except Wrong as wrong:
            print(f"WRONG: {said}: {wrong}\n{self.place.evidence()}", flush=True)
            self.found.wrong.append(said)
            self.place.clear()

    def _pass(self) -> None:
        for argv, _ in COMMANDS:
            ran = self.place.up() if argv is UP else self.place.must(*argv)
            if argv[0] == "exec" and ran.out != self.content:
                raise Wrong(f"the workspace is not what it was: {ran}")

    def _strike(self, kill: Kill) -> None:
        if COMMANDS[kill.command][0] is not UP:
            self.place.up()
        process = self.place.start(COMMANDS[kill.command][0])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(kill.delay_s)
        victim = self._kill(kill.which)
        ran = self.place.finish(process)
        self.found.failed_and_told += self.place.judge(ran, killed=victim == process.pid)

    def _kill(self, which: float) -> int | None:
        """Its process id; None where there is no process any more."""
        there = sorted(processes(self.place.marks).items())
        if there:
            pid, command = there[int(which * len(there))]
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.found.killed[next((name for word, name in NAMES.items() if word in command), "another")] += 1
                return pid
        self.found.missed += 1
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cycles", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--kills", type=int, default=20, help="in how many of them somebody is killed (default 20)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no cycle after this time")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything that was measured there as well")
    options = parser.parse_args()
    facts, began = machine_facts(), time.monotonic()
    end_in_order()
    with place("soak") as base:
        soak = Soak(base, options.seed)
        try:
            soak.run(options.cycles, options.kills, options.seconds)
        except KeyboardInterrupt:
            return 130
        finally:
            soak.place.clear()
    print(f"commit {commit()}, seed {options.seed}, {soak.found}, in {time.monotonic() - began:.0f} s")
    if options.json:
        told = {"machine": facts, "commit": commit(), "seed": options.seed, **soak.found.to_json()}
        options.json.write_text(json.dumps(told, indent=2) + "\n")
    return 1 if soak.found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
