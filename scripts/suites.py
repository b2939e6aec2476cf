"""Run the named test suites one after another and end with a summary line for each.

Heavy artifacts (toolchain, guest image, snapshots) go to the user's cache directory and are reused from run to run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
PYTEST = [PYTHON, "-m", "pytest", "-p", "no:cacheprovider"]


def lint() -> list[list[str]]:
    return [
        [PYTHON, "-m", "ruff", "check", "."],
        [PYTHON, "-m", "ruff", "format", "--check", "."],
        [PYTHON, "-m", "mypy"],
    ]


def fast() -> list[list[str]]:
    """On all cores; `worksteal`, because a few of the tests take a hundred times longer than most."""
    return [[*PYTEST, "tests/unit", "tests/contract", "-n", "auto", "--dist", "worksteal"]]


def vm() -> list[list[str]]:
    return [[*PYTEST, "tests/vm", "--timeout", "1800", "-rs", "--durations", "5"]]


def e2e() -> list[list[str]]:
    return [[*PYTEST, "tests/e2e", "--timeout", "2400", "-rs", "--durations", "5"]]


def wheel() -> list[list[str]]:
    """The built wheel, in a clean environment of its own, validates every example."""
    scratch = Path(tempfile.mkdtemp(prefix="sandbox-wheel-"))
    examples = sorted((ROOT / "examples").glob("*/Sandboxfile.yaml"))
    sandbox = str(scratch / "venv/bin/sandbox")
    return [
        [PYTHON, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(scratch / "dist"), str(ROOT)],
        [PYTHON, "-m", "venv", "--without-pip", str(scratch / "venv")],
        ["sh", "-c", f"exec {PYTHON} -m pip --python {scratch}/venv/bin/python install --quiet {scratch}/dist/*.whl"],
        *([sandbox, "validate", str(example)] for example in examples),
        [sandbox, "--help"],
        ["rm", "-rf", str(scratch)],
    ]


SUITES = {"lint": lint, "fast": fast, "wheel": wheel, "vm": vm, "e2e": e2e}


def main(names: list[str]) -> int:
    summary, failed = [], False
    for name in names:
        print(f"== {name}", flush=True)
        began, code = time.monotonic(), 0
        for argv in SUITES[name]():
            code = subprocess.run(argv, cwd=ROOT).returncode
            if code:
                print(f"failed with code {code}: {' '.join(argv)}", flush=True)
                break
        failed = failed or code != 0
        summary.append(f"{name:<6} {'failed' if code else 'passed'} in {time.monotonic() - began:.0f} s")
    print("== summary", *summary, sep="\n", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
