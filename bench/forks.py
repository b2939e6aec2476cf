"""A fork of the running quickstart: how long the source stands still, and when the clone's service answers.

    python bench/forks.py --runs 5
    chrt -r 1 python bench/forks.py --runs 5 --json forks.json      beside other work

The workspace is a clone. The web service of each new sandbox is asked over HTTP from the start of the command on, until
it answers. Pause and resume of the same sandbox are measured, too. The peer is a warm `up` of the same sandbox.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
import urllib.request
from pathlib import Path

from cold_boot import known_accelerator
from many import prepare
from run import BUILD_S, Bench, free_port, report, say
from series import Comparison, Series, load_average, machine_facts, time_command

PATIENCE_S = 60.0
EVERY_S = 0.01


class Asking(threading.Thread):
    """Asks a port of this host for /health until it answers; `answered` is when, by the monotonic clock."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.url, self.answered = f"http://127.0.0.1:{port}/health", 0.0

    def run(self) -> None:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url, timeout=PATIENCE_S) as answer:
                if answer.status == 200:
                    self.answered = time.monotonic()
                    return
            time.sleep(EVERY_S)


def port_of(bench: Bench, name: str) -> int:
    """The port of this host behind which the web service of a sandbox is."""
    return int(next(row for row in json.loads(bench.call("ls", "--json")) if row["name"] == name)["ports"][0]["host"])


def measure(bench: Bench) -> list[Comparison]:
    name = "many"
    up = bench.sandbox("up", "-d", "--yes")
    say("the first `up`, which builds what is not cached, and two more, so that it is remembered")
    for _ in range(3):
        bench.call("up", "-d", "--yes", timeout_s=BUILD_S)
        bench.call("down", "--yes")
    ups = Series("sandbox up, warm")
    still, whole, answers = (Series(what) for what in ("the source stands still", "the whole command", "an answer"))
    pauses, resumes = Series("sandbox pause"), Series("sandbox resume")
    for _ in range(bench.runs):
        ups.seconds.append(time_command(up, cwd=bench.project, env=bench.env, timeout_s=600))
        asking = Asking(port_of(bench, name) + 1)  # a clone gets the next one that is free
        asking.start()
        began = time.monotonic()
        told = json.loads(bench.call("fork", name, "--json"))
        whole.seconds.append(time.monotonic() - began)
        still.seconds.append(float(told["stood_still_seconds"]))
        clone = told["clones"][0]
        if clone["ports"][0]["host"] != port_of(bench, name) + 1:
            raise RuntimeError(f"the clone has another port than was asked: {clone['ports']}")
        asking.join()
        answers.seconds.append(asking.answered - began)
        bench.call("down", clone["name"], "--yes")
        for series, verb in ((pauses, "pause"), (resumes, "resume")):
            series.seconds.append(
                time_command(bench.sandbox(verb, name), cwd=bench.project, env=bench.env, timeout_s=600)
            )
        bench.call("down", "--yes")
        say(f"still {still.seconds[-1]:.3f}, answer {answers.seconds[-1]:.2f}, whole {whole.seconds[-1]:.2f} s")
    return [Comparison(one.what, one, ups) for one in (still, answers, whole, pauses, resumes)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="how often each thing is measured (default 5)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything that was measured there as well")
    options = parser.parse_args()
    facts = machine_facts()
    with prepare() as bench:
        bench.runs = options.runs
        file = bench.project / "Sandboxfile.yaml"
        file.write_text(file.read_text().replace('"8080"', f'"{free_port()}:8080"'))
        comparisons = measure(bench)
    facts |= {"accelerator": known_accelerator(dict(os.environ)), "load_after": load_average()}
    report(facts, comparisons, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
