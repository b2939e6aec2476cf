"""The numbers of the README: each beside a peer that is measured in the same run, as a ratio.

    make bench                              all of it, a few minutes with a warm cache
    python bench/run.py --runs 7 --json numbers.json
    python bench/run.py --only cli gateway  without starting a machine

The cache is the user's, so that nothing is built twice; the sandbox itself lives in directories of its own and is taken
down whatever happens. Nothing here asserts anything about time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cold_boot import ColdBoot, known_accelerator
from exec_open import seconds_of_execs
from exec_start import NAME as LISTENING
from exec_start import start_listening
from gateway_speed import SIZE, gateway_downloads
from series import Comparison, Series, alternate, load_average, machine_facts, run_command, time_command

from engine.cli.names import COMPLETE

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "quickstart"
TEMPLATE = ROOT / "templates" / "default"  # every setting that there is
PUBLISHED = 8080  # by the example's web service
ELSEWHERE = (18080, 28080)  # always the same, so that the cache knows them from the last time
BUILD_S = 3600.0  # a cold cache, under emulation
CALL_S = 300.0
SMALL_FILES = 100
NAME = "bench"
GUEST_USER = "agent"
PASS = [sys.executable, "-c", "pass"]


@dataclass
class Bench:
    """One run: a project and directories that belong to it."""

    project: Path
    env: dict[str, str]
    runs: int
    cold_runs: int

    def sandbox(self, *argv: str) -> list[str]:
        # What the installed `sandbox` script does, with the interpreter that runs us.
        return [sys.executable, "-c", "from engine.cli.main import main; main()", *argv]

    def seconds(
        self, argv: list[str], timeout_s: float = CALL_S, env: Mapping[str, str] | None = None
    ) -> Callable[[], float]:
        return lambda: time_command(argv, cwd=self.project, env={**self.env, **(env or {})}, timeout_s=timeout_s)

    def call(self, *argv: str, timeout_s: float = CALL_S, stdin: str = "") -> str:
        return run_command(self.sandbox(*argv), cwd=self.project, env=self.env, timeout_s=timeout_s, stdin=stdin)


@contextmanager
def prepare(runs: int, cold_runs: int) -> Iterator[Bench]:
    """A copy of the quickstart, with state of its own; at the end nothing of it runs and nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="sb-") as scratch:
        base = Path(scratch)
        project = base / "quickstart"
        shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("RESULT.md"))
        file = project / "Sandboxfile.yaml"
        file.write_text(file.read_text().replace(f'"{PUBLISHED}:', f'"{free_port()}:'))
        env = {**os.environ, "SANDBOX_STATE_DIR": str(base / "state"), "SANDBOX_RUNTIME_DIR": str(base / "run")}
        # As users have it: modules that were compiled before, those of a tree that was edited since as well.
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        env["PYTHONPYCACHEPREFIX"] = str(base / "bytecode")
        bench = Bench(project, env, runs, cold_runs)
        try:
            yield bench
        finally:
            if any((base / "state").glob("instances/*/instance.json")):
                down = bench.sandbox("down", "--all", "--yes")
                subprocess.run(down, cwd=base, env=env, timeout=CALL_S, check=False, stdout=subprocess.DEVNULL)


def free_port() -> int:
    """The example's own port, or one of the others. Raises RuntimeError when all are taken."""
    for port in (PUBLISHED, *ELSEWHERE):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"the ports {PUBLISHED}, {', '.join(map(str, ELSEWHERE))} are all in use")


def measure_cli(bench: Bench) -> Iterator[Comparison]:
    """What the command line costs before it does anything, beside what Python costs to start."""
    python = ("python -c pass", bench.seconds(PASS))
    typed = {"COMP_WORDS": "sandbox exec -n l", "COMP_CWORD": "3", COMPLETE: "bash_complete"}
    commands = {
        "sandbox --help": bench.seconds(bench.sandbox("--help")),
        "sandbox ls": bench.seconds(bench.sandbox("ls")),
        "completion of a name": bench.seconds(bench.sandbox(), env=typed),
        "sandbox validate": bench.seconds(bench.sandbox("validate", str(TEMPLATE))),
        "... with services": bench.seconds(bench.sandbox("validate", str(bench.project))),
    }
    python[1]()  # once before: Python writes its bytecode
    for title, seconds in commands.items():
        seconds()
        yield alternate(title, bench.runs, (title, seconds), python)
    with start_listening(bench.env, bench.project) as until_hello:
        exec_true = bench.sandbox("exec", LISTENING, "--", "true")
        until_hello(exec_true)
        title = "sandbox exec until its hello"
        found = alternate(title, bench.runs, (title, lambda: until_hello(exec_true)), python)
        yield found
        yield Comparison("... without Python's own", found.surplus(), found.peer)


def measure_gateway(bench: Bench) -> Iterator[Comparison]:
    """The gateway alone, no guest."""
    found = gateway_downloads(bench.runs)
    size = f"{SIZE // 1024**2} MiB"
    peer = Series(f"{size} over loopback", found["direct"])
    yield Comparison(f"gateway, http, {size}", Series("through the gateway, http", found["http"]), peer)
    yield Comparison(f"gateway, tls, {size}", Series("through the gateway, spliced", found["tls"]), peer)


def measure_machine(bench: Bench) -> Iterator[Comparison]:
    """A warm `up` until the services are healthy, beside a boot of the same guest until Docker answers."""
    say("the first `up`, which builds what is not cached")
    up = bench.sandbox("up", "-d", "--yes", "--progress", "plain", "--name", NAME)
    down = bench.sandbox("down", NAME)
    first = bench.seconds(up, BUILD_S)()
    say(f"done in {first:.1f} s; now warm ones")
    ours, downs = Series("services healthy"), Series("sandbox down")
    for _ in range(bench.runs):
        downs.seconds.append(bench.seconds(down)())
        ours.seconds.append(bench.seconds(up)())
    yield from measure_running(bench)
    downs.seconds.append(bench.seconds(down)())
    say("cold boots")
    boot = ColdBoot(bench.project / "Sandboxfile.yaml", bench.env)
    peer = Series("cold boot, Docker answers", [boot.run() for _ in range(bench.cold_runs)])
    yield Comparison("sandbox up, warm", ours, peer)
    yield Comparison("sandbox down", downs, peer)


def measure_running(bench: Bench) -> Iterator[Comparison]:
    """With the sandbox up."""
    python = ("python -c pass", bench.seconds(PASS))
    exec_true = bench.sandbox("exec", NAME, "--", "true")
    yield alternate("sandbox exec -- true", bench.runs, ("exec -- true", bench.seconds(exec_true)), python)
    yield from measure_open(bench)
    # By turns, in the guest, so that the way in does not count.
    places = ["/workspace", "/home/agent"]
    script = (Path(__file__).parent / "files_in_guest.py").read_text()
    said = bench.call(
        "exec", "-i", NAME, "--", "python3", "-", *places, str(SMALL_FILES), str(bench.runs), stdin=script
    )
    found = json.loads(said)
    name = f"{SMALL_FILES} small files, live mount"
    yield Comparison(name, Series("virtiofs", found[places[0]]), Series("guest's own disk", found[places[1]]))


def measure_open(bench: Bench) -> Iterator[Comparison]:
    """`true` as a user of the guest, over a connection that is open, beside what starting it takes in the guest."""
    script = (Path(__file__).parent / "spawn_in_guest.py").read_text()
    python = ["python3", "-I", "-S", "-B", "-", GUEST_USER, str(bench.runs)]
    own = json.loads(bench.call("exec", "-i", "-u", "root", NAME, "--", *python, stdin=script))
    ours = Series("exec, open connection", seconds_of_execs(bench.env, NAME, GUEST_USER, bench.runs))
    for what, seconds in own.items():
        found = Comparison("exec of true, open connection", ours, Series(what, seconds))
        yield found
        yield Comparison("... without the guest's own", found.surplus(), found.peer)


SUITES = {"cli": measure_cli, "gateway": measure_gateway, "machine": measure_machine}


def say(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


def report(facts: dict[str, object], comparisons: list[Comparison], file: Path | None) -> None:
    """Print what was measured, and write it as JSON to `file`, where there is one."""
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    rows = [("", "median (min-max)", "peer", "its median (min-max)", "ratio")]
    rows += [(c.name, str(c.ours), c.peer.what, str(c.peer), f"{c.ratio:.3g}") for c in comparisons]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if file is not None:
        value = {"machine": facts, "comparisons": [comparison.to_json() for comparison in comparisons]}
        file.write_text(json.dumps(value, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="how often each thing is measured (default 5)")
    parser.add_argument("--cold-runs", type=int, default=2, help="how many cold boots (default 2)")
    parser.add_argument("--only", nargs="+", choices=SUITES, default=list(SUITES), help="not everything")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything that was measured there as well")
    options = parser.parse_args()
    if options.runs < 1 or options.cold_runs < 1:
        parser.error("at least one run")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what we started is taken down then, too
    began = time.perf_counter()
    comparisons: list[Comparison] = []
    with prepare(options.runs, options.cold_runs) as bench:
        facts = machine_facts()
        for suite in options.only:
            say(suite)
            comparisons += SUITES[suite](bench)
        facts |= {"accelerator": known_accelerator(bench.env), "load_after": load_average()}
    report(facts, comparisons, options.json)
    say(f"{time.perf_counter() - began:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
