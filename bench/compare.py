"""Two commits beside each other: is `up`, `exec` or `down` slower than it was?

    python bench/compare.py OLD NEW
    python bench/compare.py --runs 9 main~20 main --json compare.json

Each commit gets a work tree and an environment of its own, in a temporary directory, and a state of its own; both use
the user's cache. Both are measured by turns, so that whatever else the machine does falls on both. The quickstart is
brought up with a live mount, a command is run in it, and it is taken down; what is measured are whole commands.
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


@dataclass
class Side:
    """One commit: its interpreter, a project, and what was measured."""

    commit: str
    python: Path
    project: Path
    env: dict[str, str]
    series: dict[str, Series] = field(default_factory=dict)

    def argv(self, *words: str) -> list[str]:
        return [str(self.python), "-c", "from engine.cli.main import main; main()", *words]

    def run(self, *words: str, timeout_s: float = CALL_S) -> None:
        run_command(self.argv(*words), cwd=self.project, env=self.env, timeout_s=timeout_s)

    def time(self, title: str, *words: str) -> None:
        seconds = time_command(self.argv(*words), cwd=self.project, env=self.env, timeout_s=CALL_S)
        self.series.setdefault(title, Series(f"{title}, {self.commit}")).seconds.append(seconds)


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
        side = Side(commit, tree / ".venv/bin/python", project, env)
        try:
            yield side
        finally:
            down = side.argv("down", "--all", "--yes")
            subprocess.run(down, cwd=project, env=env, check=False, timeout=CALL_S, stdout=subprocess.DEVNULL)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=False)


def measure(sides: tuple[Side, Side], runs: int) -> list[Comparison]:
    for side in sides:
        say(f"{side.commit}: the first `up`, which builds what is not cached, and two more")
        for _ in range(3):
            side.run("up", "-d", "--yes", timeout_s=BUILD_S)
            side.run("down")
    for number in range(runs):
        for side in sides if number % 2 else sides[::-1]:
            side.time("up", "up", "-d", "--yes")
            side.time("exec", "exec", "--", "true")
            side.time("a file of 20 MB over the mount", "exec", "--", "sh", "-c", "head -c 20000000 /dev/zero > big")
            side.time("down", "down")
        say(f"round {number + 1} of {runs}, load {load_average()}")
    old, new = sides
    return [Comparison(title, new.series[title], old.series[title]) for title in new.series]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--runs", type=int, default=5, help="how often each thing is measured (default 5)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything that was measured there as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sb-") as scratch, contextlib.ExitStack() as stack:
        sides = []
        for name, commit in (("old", options.old), ("new", options.new)):
            (Path(scratch) / name).mkdir()
            sides.append(stack.enter_context(checked_out(commit, Path(scratch) / name)))
        found = measure((sides[0], sides[1]), options.runs)
    print(f"{'':32} {options.old:>24} {options.new:>24}   ratio")
    for one in found:
        print(f"{one.name:32} {one.peer!s:>24} {one.ours!s:>24}   {one.ratio:.2f}")
    if options.json:
        told = {"machine": machine_facts(), "found": [one.to_json() for one in found]}
        options.json.write_text(json.dumps(told, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
