"""Two commits beside each other: is `up`, `exec` or `down` slower than it was?

    python bench/compare.py OLD NEW
    python bench/compare.py --runs 9 main~20 main --json compare.json
    python bench/compare.py --only egress --runs 3 main~20 main

Each commit gets a work tree and an environment of its own, in a temporary directory, and a state of its own; both use
the user's cache. Both are measured by turns, so that whatever else the machine does falls on both. The quickstart is
brought up with a live mount, a command is run in it, and it is taken down; what is measured are whole commands. Then
`bench/egress.py` of each commit is run, which measures what goes through the gateway, in a guest.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from run import BUILD_S, EXAMPLE, ROOT, free_port, say
from series import Comparison, Series, load_average, machine_facts, run_command, time_command

ENVIRONMENT_S = 900.0
CALL_S = 300.0
EGRESS = ("down", "kept", "new")  # of the tasks of bench/egress.py: those that every commit knows
PARTS = ("commands", "egress")


@dataclass
class Side:
    """One commit: its interpreter, a project, and what was measured."""

    commit: str
    tree: Path
    project: Path
    env: dict[str, str]
    series: dict[str, Series] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        return self.tree / ".venv/bin/python"

    def argv(self, *words: str) -> list[str]:
        return [str(self.python), "-c", "from engine.cli.main import main; main()", *words]

    def run(self, *words: str, timeout_s: float = CALL_S) -> None:
        run_command(self.argv(*words), cwd=self.project, env=self.env, timeout_s=timeout_s)

    def time(self, title: str, *words: str) -> None:
        self.add(title, [time_command(self.argv(*words), cwd=self.project, env=self.env, timeout_s=CALL_S)])

    def add(self, title: str, seconds: list[float]) -> None:
        self.series.setdefault(title, Series(f"{title}, {self.commit}")).seconds.extend(seconds)

    def measure_egress(self) -> None:
        """What a guest of this commit gets through the gateway: each task once on each road."""
        path = self.project.parent / "egress.json"
        words = ["--runs", "1", "--megabytes", "20", "--only", *EGRESS, "--json", str(path)]
        argv = [str(self.python), "bench/egress.py", *words]
        run_command(argv, cwd=self.tree, env=self.env, timeout_s=BUILD_S)
        for result in json.loads(path.read_text())["results"]:
            for road, seconds in result["seconds"].items():
                self.add(f"{result['task']}, {road}", seconds)


@contextlib.contextmanager
def checked_out(commit: str, base: Path) -> Iterator[Side]:
    """A work tree of `commit` with an environment; gone with the block, and nothing of it runs then."""
    tree = base / "tree"
    run_command(["git", "worktree", "add", "--detach", str(tree), commit], cwd=ROOT, env=os.environ, timeout_s=120)
    try:
        say(f"an environment for {commit}")
        run_command(["scripts/venv.sh", ".venv"], cwd=tree, env=os.environ, timeout_s=ENVIRONMENT_S)
        project = base / "quickstart"
        shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("RESULT.md"))
        file = project / "Sandboxfile.yaml"
        file.write_text(file.read_text().replace('"8080:', f'"{free_port()}:'))
        roots = {"SANDBOX_STATE_DIR": str(base / "state"), "SANDBOX_RUNTIME_DIR": str(base / "run")}
        env = {**os.environ, **roots, "PYTHONPYCACHEPREFIX": str(base / "bytecode")}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        side = Side(commit, tree, project, env)
        try:
            yield side
        finally:
            down = side.argv("down", "--all", "--yes")
            subprocess.run(down, cwd=project, env=env, check=False, timeout=CALL_S, stdout=subprocess.DEVNULL)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=False)


def measure_commands(sides: list[Side], runs: int) -> None:
    for side in sides:
        say(f"{side.commit}: the first `up`, which builds what is not cached, and two more")
        for _ in range(3):
            side.run("up", "-d", "--yes", timeout_s=BUILD_S)
            side.run("down")
    for number in range(runs):
        for side in sides if number % 2 else sides[::-1]:
            side.time("up", "up", "-d", "--yes")
            side.time("exec, the first", "exec", "--", "true")
            side.time("exec, the second", "exec", "--", "true")
            side.time("a file of 20 MB over the mount", "exec", "--", "sh", "-c", "head -c 20000000 /dev/zero > big")
            side.time("down", "down")
        say(f"round {number + 1} of {runs}, load {load_average()}")


def measure_egress(sides: list[Side], runs: int) -> None:
    for number in range(runs):
        for side in sides if number % 2 else sides[::-1]:
            side.measure_egress()
        say(f"egress, round {number + 1} of {runs}, load {load_average()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--runs", type=int, default=5, help="how often each thing is measured (default 5)")
    parser.add_argument("--only", choices=PARTS, help="this alone")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything that was measured there as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sb-") as scratch, contextlib.ExitStack() as stack:
        sides = []
        for name, commit in (("old", options.old), ("new", options.new)):
            (Path(scratch) / name).mkdir()
            sides.append(stack.enter_context(checked_out(commit, Path(scratch) / name)))
        if options.only != "egress":
            measure_commands(sides, options.runs)
        if options.only != "commands":
            measure_egress(sides, options.runs)
        old, new = sides
        found = [Comparison(title, new.series[title], old.series[title]) for title in new.series]
    print(f"{'':42} {options.old:>24} {options.new:>24}   ratio")
    for one in found:
        print(f"{one.name:42} {one.peer!s:>24} {one.ours!s:>24}   {one.ratio:.2f}")
    if options.json:
        told = {"machine": machine_facts(), "found": [one.to_json() for one in found]}
        options.json.write_text(json.dumps(told, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
