"""Run the named test suites one after another and end with a summary line for each.

Heavy artifacts (toolchain, guest image, snapshots) go to the user's cache directory and are reused from run to run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
PYTEST = [PYTHON, "-m", "pytest", "-p", "no:cacheprovider"]


def lint(scratch: Path) -> list[list[str]]:
    return [
        [PYTHON, "-m", "ruff", "check", "."],
        [PYTHON, "-m", "ruff", "format", "--check", "."],
        [PYTHON, "-m", "mypy"],
        [PYTHON, "-m", "mypy", "--config-file", "tests/mypy.ini", "tests", "bench"],
    ]


def fast(scratch: Path) -> list[list[str]]:
    """On all cores; `worksteal`, because a few of the tests take a hundred times longer than most."""
    return [[*PYTEST, "tests/unit", "tests/contract", "-n", "auto", "--dist", "worksteal"]]


def vm(scratch: Path) -> list[list[str]]:
    return [[*PYTEST, "tests/vm", "--timeout", "1800", "-rs", "--durations", "5"]]


def e2e(scratch: Path) -> list[list[str]]:
    """Two at once: a machine has two processors, but most of what it does takes one, and much of it is waiting."""
    options = ["-n", "2", "--dist", "loadfile", "--timeout", "2400", "-rs", "--durations", "40"]
    return [[*PYTEST, "tests/e2e", *options]]


def clients(scratch: Path) -> list[list[str]]:
    """All clients that have to work through the gateway, compilers too, which `e2e` leaves out."""
    files = [f"tests/e2e/test_{name}.py" for name in ("clients", "docker_matrix", "recipes")]
    return [["env", "SANDBOX_TEST_CLIENTS=1", *PYTEST, *files, "--timeout", "2400", "-rs", "--durations", "5"]]


def agents(scratch: Path) -> list[list[str]]:
    """All agents that can be installed, on their tasks and by their starters; `e2e` does two tasks each time, and the
    rest in turns."""
    files = [f"tests/e2e/test_{name}.py" for name in ("agent_tasks", "starters")]
    return [["env", "SANDBOX_TEST_ALL=1", *PYTEST, *files, "--timeout", "2400", "-rs", "--durations", "0"]]


def projects(scratch: Path) -> list[list[str]]:
    """All small projects that can be started with the registries that are there; `e2e` has three of them each time."""
    file = "tests/e2e/test_projects.py"
    return [["env", "SANDBOX_TEST_ALL=1", *PYTEST, file, "--timeout", "2400", "-rs", "--durations", "0"]]


def wheel(scratch: Path) -> list[list[str]]:
    """The built wheel, in a clean environment of its own, validates every example and has its templates."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    built = scratch / "dist" / f"{project['name']}-{project['version']}-py3-none-any.whl"
    # Built from a copy: setuptools leaves a build directory behind, whose stale files would be in the next wheel.
    sources = ["sandboxfile", "vmm", "engine", "templates", "schemas"]
    sources += ["pyproject.toml", "setup.py", "README.md", "LICENSE"]
    examples = sorted((ROOT / "examples").glob("*/Sandboxfile.yaml"))
    sandbox = str(scratch / "venv/bin/sandbox")
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    return [
        ["mkdir", str(scratch / "source")],
        ["cp", "-r", *sources, str(scratch / "source")],
        [*pip, "wheel", "--no-deps", "--wheel-dir", str(scratch / "dist"), str(scratch / "source")],
        [PYTHON, "-m", "venv", "--without-pip", str(scratch / "venv")],
        [*pip, "--python", str(scratch / "venv/bin/python"), "install", str(built)],
        *([sandbox, "validate", str(example)] for example in examples),
        [sandbox, "init", "--list"],
        ["mkdir", str(scratch / "project")],
        [sandbox, "init", "claude-code", str(scratch / "project"), "--yes"],
        [sandbox, "validate", str(scratch / "project")],
        [sandbox, "--help"],
    ]


SUITES = {
    "lint": lint,
    "fast": fast,
    "wheel": wheel,
    "vm": vm,
    "e2e": e2e,
    "clients": clients,
    "agents": agents,
    "projects": projects,
}


def main(names: list[str]) -> int:
    summary, failed = [], False
    for name in names:
        print(f"== {name}", flush=True)
        began, code = time.monotonic(), 0
        with tempfile.TemporaryDirectory(prefix="sandbox-suite-") as scratch:
            for argv in SUITES[name](Path(scratch)):
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
