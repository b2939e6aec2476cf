"""What files cost by where they lie: a live mount, a `local` directory in it, a clone, the guest's disk, this host.

    python bench/workspaces.py --runs 5
    python bench/workspaces.py --only status --json workspaces.json
    python bench/workspaces.py --only npm --runs 1

`status` is `git status` in a repository of 10,000 files, after one that is not counted. `npm` is `npm ci` of some
300 packages, through the gateway, each time without npm's cache; `node_modules` lies in each place by turns. All of one
kind is done in one machine, by turns, so that whatever else this host does falls on all of it. The peer is
the guest's own disk; this host stands beside it, where nothing is emulated.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cold_boot import known_accelerator
from run import BUILD_S, Bench, report, say
from series import Comparison, Series, load_average, machine_facts, run_command, time_command

FILES, PER_DIRECTORY = 10_000, 100
NAME = "workspaces"
TASK_S = 3000.0
# With all that they need these are some 300 packages.
PACKAGE = {
    "name": "bench",
    "version": "1.0.0",
    "private": True,
    "dependencies": {"jest": "29.7.0", "express": "4.21.2"},
}
LOCK = ("npm", "install", "--package-lock-only", "--omit-lockfile-registry-resolved", "--ignore-scripts")
DISK = "/home/agent/disk"
FILE = f"""\
version: "1"
name: {NAME}
agent: {{command: [sleep, inf]}}
machine: {{cpus: 2, memory: 4GiB, disk: 20GiB}}
endpoints: [npm]
mounts:
  - {{source: ./live, target: /live}}
  - {{source: ./own, target: /own, local: [node_modules]}}
  - {{source: ./copied, target: /copied, mode: clone}}
"""
PLACES = {"live mount": "/live", "local directory": "/own", "clone": "/copied"}
# In the guest: seconds of one command, and what it said, as JSON.
TIMED = """
import json, subprocess, sys, time
before, argv, where = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
for words in before:
    subprocess.run(words, cwd=where, check=True, capture_output=True)
began = time.perf_counter()
done = subprocess.run(argv, cwd=where, capture_output=True, text=True)
seconds = time.perf_counter() - began
assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
print(json.dumps([seconds, done.stdout[-500:]]))
"""


@contextlib.contextmanager
def prepare(runs: int) -> Iterator[Bench]:
    """A project with three workspaces, and a state of its own; at the end nothing of it runs and nothing is left."""
    with tempfile.TemporaryDirectory(prefix="sb-") as scratch:
        base = Path(scratch)
        env = {**os.environ, "SANDBOX_STATE_DIR": str(base / "state"), "SANDBOX_RUNTIME_DIR": str(base / "run")}
        project = base / NAME
        for name in ("live", "own", "copied"):
            (project / name).mkdir(parents=True)
        (project / "Sandboxfile.yaml").write_text(FILE)
        bench = Bench(project, env, runs, 0)
        try:
            yield bench
        finally:
            down = bench.sandbox("down", "--all", "--yes")
            subprocess.run(down, cwd=base, env=env, check=False, timeout=600, stdout=subprocess.DEVNULL)


def fill(bench: Bench, directory: Path) -> None:
    """A repository of 10,000 committed files, one of them changed since and one new."""
    text = random.Random(1)
    for number in range(FILES):
        path = directory / f"d{number // PER_DIRECTORY:03}" / f"f{number:05}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(text.choices("abcdefgh \n", k=300)))
    author = ("-c", "user.name=bench", "-c", "user.email=bench@example.com")
    for words in (("init", "-q"), ("add", "."), (*author, "commit", "-q", "-m", "all")):
        run_command(["git", *words], cwd=directory, env=bench.env, timeout_s=TASK_S)
    (directory / "d000/f00000.txt").write_text("changed\n")
    (directory / "new.txt").write_text("new\n")


def in_guest(bench: Bench, where: str, argv: list[str], before: list[list[str]] | None = None) -> tuple[float, str]:
    """Seconds of one command there, and the end of what it printed, after others that are not counted."""
    words = ["exec", NAME, "--", "python3", "-c", TIMED, json.dumps(before or []), json.dumps(argv), where]
    seconds, printed = json.loads(bench.call(*words, timeout_s=TASK_S))
    return float(seconds), str(printed)


def measure_status(bench: Bench) -> Iterator[Comparison]:
    """`git status` on 10,000 files, one of them changed and one new."""
    status = ["git", "status", "--porcelain"]
    places = {"live mount": "/live", "clone": "/copied", "guest's disk": DISK}
    bench.call("exec", NAME, "--", "cp", "-r", "/copied", DISK, timeout_s=TASK_S)
    series = {title: Series(f"git status, {title}") for title in places}
    here = Series("git status, this host")
    for number in range(bench.runs + 1):
        for title, where in places.items():
            seconds, printed = in_guest(bench, where, status)
            if len(printed.splitlines()) != 2:
                raise RuntimeError(f"git says of {where}: {printed}")
            if number:
                series[title].seconds.append(seconds)
        seconds = time_command(["git", "status"], cwd=bench.project / "live", env=bench.env, timeout_s=TASK_S)
        if number:
            here.seconds.append(seconds)
    peer = series.pop("guest's disk")
    yield from (Comparison(one.what, one, peer) for one in series.values())
    yield Comparison(here.what, here, peer)


def measure_npm(bench: Bench, chosen: list[str]) -> Iterator[Comparison]:
    """`npm ci` through the gateway, without a cache; the guest's disk is always among the places."""
    places = {title: where for title, where in PLACES.items() if title in chosen} | {"guest's disk": DISK}
    bench.call("exec", NAME, "--", "mkdir", "-p", DISK)
    bench.call("exec", NAME, "--", "cp", "/live/package.json", "/live/package-lock.json", DISK)
    series = {title: Series(f"npm ci, {title}") for title in places}
    clear = [["sh", "-c", "rm -rf ~/.npm/_cacache node_modules/* node_modules/.[!.]*"]]
    for _ in range(bench.runs):
        for title, where in places.items():
            seconds, printed = in_guest(bench, where, ["npm", "ci", "--no-audit", "--no-fund"], clear)
            say(f"npm ci, {title}: {seconds:.1f} s: {printed.strip().splitlines()[-1:]}")
            series[title].seconds.append(seconds)
    peer = series.pop("guest's disk")
    yield from (Comparison(one.what, one, peer) for one in series.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="how often each thing is measured (default 5)")
    parser.add_argument("--only", choices=("status", "npm"), help="this alone")
    parser.add_argument("--npm-in", nargs="+", choices=PLACES, default=list(PLACES), help="`npm ci` not in all places")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything that was measured there as well")
    options = parser.parse_args()
    facts = machine_facts()
    comparisons: list[Comparison] = []
    with prepare(options.runs) as bench:
        if options.only != "status":
            if shutil.which("npm") is None:
                sys.exit("npm, which writes the lock file, is not on this host")
            (bench.project / "live/package.json").write_text(json.dumps(PACKAGE))
            run_command(LOCK, cwd=bench.project / "live", env=bench.env, timeout_s=TASK_S)
            for name in ("own", "copied"):
                for file in ("package.json", "package-lock.json"):
                    shutil.copy(bench.project / "live" / file, bench.project / name)
        if options.only != "npm":
            for name in ("live", "copied"):
                fill(bench, bench.project / name)
        say("`up`, which builds what is not cached")
        bench.call("up", "-d", "--yes", timeout_s=BUILD_S)
        if options.only != "npm":
            comparisons += measure_status(bench)
            bench.call("exec", NAME, "--", "rm", "-rf", DISK, timeout_s=TASK_S)
        if options.only != "status":
            comparisons += measure_npm(bench, options.npm_in)
    facts |= {"accelerator": known_accelerator(dict(os.environ)), "load_after": load_average()}
    report(facts, comparisons, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
