"""The command line in a process of its own, and a supervisor without a machine for it to talk to."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.instances import Instance, load_instance
from engine.layout import Layout

HERE = Path(__file__).parent
DEADLINE_S = 40.0


@dataclass(frozen=True)
class Ran:
    """A finished command."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs `sandbox ARGV...`; `audit` is where the process writes each connection and process that it tries."""

    def __init__(self, directory: Path) -> None:
        self.project = directory / "project"
        self.project.mkdir()
        self.audit = directory / "audit"
        hooks = directory / "hooks"
        hooks.mkdir()
        (hooks / "sitecustomize.py").write_text((HERE / "audit_hook.py").read_text())
        self._hooks = hooks

    def argv(self, *argv: str) -> list[str]:
        return [sys.executable, "-m", "engine.cli.main", *argv]

    def environment(self, **env: str) -> dict[str, str]:
        return {**os.environ, **env, "PYTHONPATH": str(self._hooks), "AUDIT_FILE": str(self.audit)}

    def __call__(self, *argv: str, cwd: Path | None = None, stdin: str | None = None, **env: str) -> Ran:
        done = subprocess.run(
            self.argv(*argv),
            cwd=cwd or self.project,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            env=self.environment(**env),
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    def file(self, text: str, name: str = "Sandboxfile.yaml") -> Path:
        path = self.project / name
        path.write_text(text)
        return path

    def effects(self) -> list[str]:
        """What the commands so far did to the world outside their own process."""
        return self.audit.read_text().splitlines() if self.audit.exists() else []


@dataclass
class FakeSandbox:
    """A running supervisor; `process` is it."""

    name: str
    process: subprocess.Popen[str]
    layout: Layout

    def record(self) -> Instance | None:
        return load_instance(self.layout, self.name)


@contextlib.contextmanager
def start_fake(layout: Layout, project: Path, name: str, *flags: str) -> Iterator[FakeSandbox]:
    argv = [sys.executable, str(HERE / "fake_supervisor.py"), name, str(project), *flags]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield FakeSandbox(name, process, layout)
        finally:
            # Its standard input is its leash: at the end of it, it ends.
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(DEADLINE_S)
            finally:
                process.kill()


def write_instance(layout: Layout, name: str, **fields: object) -> None:
    """A record as some sandbox has left it."""
    path = layout.instance(name).record
    path.parent.mkdir(parents=True)
    record = {
        "name": name,
        "project": "/nowhere",
        "file": "/nowhere/Sandboxfile.yaml",
        "plan_key": "0",
        "created": "2026-01-01T00:00:00+00:00",
        "state": "running",
        "version": 1,
        **fields,
    }
    path.write_text(json.dumps(record))
