"""Many sandboxes at once: how long each takes to come up, whether all are well, and what each takes of the memory.

    python bench/many.py --most 20
    python bench/many.py --most 20 --json many.json

The quickstart with its two services, its workspace as a clone, is brought up under one name after another and stays.
Memory is PSS (proportional set size: shared pages are divided among those who share them) of all processes of a
sandbox, helpers included, as the kernel counts it (/proc/PID/smaps_rollup). It needs root, or the user of them all.
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
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from run import BUILD_S, EXAMPLE, Bench, say
from series import load_average, machine_facts, time_command

STEPS = (1, 2, 5, 10, 15, 20, 30, 50)
SETTLED_S, SETTLED_BYTES, LONGEST_S = 5.0, 4 << 20, 120.0
KIB = 1024


def copy_as_clone(project: Path, name: str) -> None:
    """A copy of the quickstart in the directory `project`, as a clone and without a fixed port."""
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("RESULT.md"), dirs_exist_ok=True)
    file = project / "Sandboxfile.yaml"
    text = file.read_text().replace("name: quickstart", f"name: {name}").replace('"8080:8080"', '"8080"')
    mount = "{source: ./workspace, target: /workspace, mode: clone}"
    file.write_text(text.replace("  - ./workspace:/workspace\n", f"  - {mount}\n"))


@contextlib.contextmanager
def prepare() -> Iterator[Bench]:
    """The quickstart as a clone, without a fixed port, and with a state of its own; at the end none of it runs."""
    with tempfile.TemporaryDirectory(prefix="sb-") as scratch:
        base = Path(scratch)
        env = {**os.environ, "SANDBOX_STATE_DIR": str(base / "state"), "SANDBOX_RUNTIME_DIR": str(base / "run")}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        env["PYTHONPYCACHEPREFIX"] = str(base / "bytecode")
        project = base / "many"
        copy_as_clone(project, "many")
        bench = Bench(project, env, 1, 0)
        try:
            yield bench
        finally:
            down = bench.sandbox("down", "--all", "--yes")
            subprocess.run(down, cwd=base, env=env, check=False, timeout=600, stdout=subprocess.DEVNULL)


def processes_of(bench: Bench) -> dict[str, list[int]]:
    """The processes of each sandbox: its supervisor and all that came of it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = {}
    for record in Path(bench.env["SANDBOX_STATE_DIR"]).glob("instances/*/instance.json"):
        if (pid := json.loads(record.read_text()).get("pid")) is None:
            continue
        todo, mine = [pid], []
        while todo:
            mine.append(todo.pop())
            todo += children.get(mine[-1], [])
        found[record.parent.name] = mine
    return found


def memory_of(pid: int) -> dict[str, int]:
    """Bytes: PSS, and of it what is anonymous, of files, and of shared memory. Zeros for a process that is gone."""
    wanted = {"Pss": "pss", "Pss_Anon": "anonymous", "Pss_File": "files", "Pss_Shmem": "shared memory"}
    told = dict.fromkeys(wanted.values(), 0)
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            key, _, rest = line.partition(":")
            if key in wanted:
                told[wanted[key]] = int(rest.split()[0]) * KIB
    return told


def memory(bench: Bench) -> dict[str, int]:
    """The sums over all processes of all sandboxes."""
    total = memory_of(0)
    for pids in processes_of(bench).values():
        for pid in pids:
            for key, value in memory_of(pid).items():
                total[key] += value
    return total


def settled(bench: Bench) -> dict[str, int]:
    """The memory when it has stood still for some seconds, or after two minutes."""
    end, last, since = time.monotonic() + LONGEST_S, memory(bench), time.monotonic()
    while time.monotonic() < end and time.monotonic() - since < SETTLED_S:
        time.sleep(1)
        now = memory(bench)
        if abs(now["pss"] - last["pss"]) > SETTLED_BYTES:
            last, since = now, time.monotonic()
    return memory(bench)


def healthy(bench: Bench, name: str) -> list[str]:
    """What Docker in that sandbox says of its containers now."""
    format_ = "{{.Names}} {{.Status}}"
    return bench.call("exec", name, "--", "docker", "ps", "--format", format_).splitlines()


def measure(bench: Bench, most: int) -> dict[str, Any]:
    say("the first `up`, which builds what is not cached, and two more, so that it is remembered")
    for _ in range(3):
        bench.call("up", "-d", "--yes", timeout_s=BUILD_S)
        bench.call("down", "--yes")
    seconds, sizes = [], {}
    for number in range(1, most + 1):
        up = bench.sandbox("up", "-d", "--yes", "--name", f"many-{number}")
        seconds.append(time_command(up, cwd=bench.project, env=bench.env, timeout_s=600))
        if number in STEPS or number == most:
            sizes[number] = settled(bench)
            total = sizes[number]["pss"]
            say(f"{number}: {seconds[-1]:.2f} s, {total / 1e6:.0f} MB in all, load {load_average()}")
    well = {name: healthy(bench, name) for name in sorted(processes_of(bench))}
    sick = {name: rows for name, rows in well.items() if sum("(healthy)" in row for row in rows) != 2}
    say(f"{len(well) - len(sick)} of {most} have two healthy services")
    one = {name: [memory_of(pid) for pid in pids] for name, pids in processes_of(bench).items()}
    return {"seconds": seconds, "memory": sizes, "unhealthy": sick, "processes": one}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--most", type=int, default=20, help="how many sandboxes at once (default 20)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything that was measured there as well")
    options = parser.parse_args()
    facts = machine_facts()
    try:
        with prepare() as bench:
            found = measure(bench, options.most)
    except KeyboardInterrupt:
        return 130  # those that ran are down
    sizes = {int(number): size["pss"] for number, size in found["memory"].items()}
    first, last = min(sizes), max(sizes)
    print(f"up: the first {found['seconds'][0]:.2f} s, the last {found['seconds'][-1]:.2f} s")
    for number, size in sizes.items():
        print(f"{number:3d} sandboxes: PSS {size / 1e6:.0f} MB")
    if last > first:
        print(f"one more takes {(sizes[last] - sizes[first]) / (last - first) / 1e6:.0f} MB")
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, **found}, indent=2) + "\n")
    return 1 if found["unhealthy"] else 0


if __name__ == "__main__":
    sys.exit(main())
