"""What was measured, beside what it is compared with."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Series:
    """Seconds of several runs of one thing."""

    what: str
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        return f"{shorten(self.median)} ({shorten(min(self.seconds))}-{shorten(max(self.seconds))})"

    def to_json(self) -> dict[str, Any]:
        facts = {"median": self.median, "min": min(self.seconds), "max": max(self.seconds)}
        rounded = {name: round(value, 6) for name, value in facts.items()}
        return {"what": self.what, "runs": len(self.seconds), **rounded, "all": [round(s, 6) for s in self.seconds]}


@dataclass
class Comparison:
    """A series and its peer from the same run. `ratio` is how many times the peer's time ours takes."""

    name: str
    ours: Series
    peer: Series

    @property
    def ratio(self) -> float:
        return self.ours.median / self.peer.median

    def surplus(self) -> Series:
        """What ours takes more than the peer, run by run."""
        pairs = zip(self.ours.seconds, self.peer.seconds, strict=True)
        return Series(f"{self.ours.what}, minus {self.peer.what}", [ours - peer for ours, peer in pairs])

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ratio": round(self.ratio, 4),
            "seconds": self.ours.to_json(),
            "peer": self.peer.to_json(),
        }


def shorten(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def alternate(
    name: str, runs: int, ours: tuple[str, Callable[[], float]], peer: tuple[str, Callable[[], float]]
) -> Comparison:
    """Run both by turns, so that whatever else the machine does falls on both. The callables return seconds."""
    mine, theirs = Series(ours[0]), Series(peer[0])
    for _ in range(runs):
        theirs.seconds.append(peer[1]())
        mine.seconds.append(ours[1]())
    return Comparison(name, mine, theirs)


def time_command(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout_s: float) -> float:
    """Wall seconds of one command. Raises RuntimeError with its words when it fails."""
    began = time.perf_counter()
    run_command(argv, cwd=cwd, env=env, timeout_s=timeout_s)
    return time.perf_counter() - began


def run_command(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout_s: float, stdin: str = "") -> str:
    """Standard output of one command. Raises RuntimeError with its words when it fails."""
    done = subprocess.run(
        argv, cwd=cwd, env=dict(env), input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def load_average() -> float:
    """Of the last minute: how busy the machine is with everything."""
    return round(os.getloadavg()[0], 2)


def machine_facts() -> dict[str, Any]:
    """What the numbers depend on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor() or "unknown",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 1024**3, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": load_average(),
    }
