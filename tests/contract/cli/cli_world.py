"""The command line in a process of its own, and a supervisor without a machine for it to talk to.

Called, the command line is forked from a process that has imported it (fork_server.py); `argv` and `environment` are
for tests that want a new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from forks import DEADLINE_S, Forked, ForkServer

from engine.state.instances import Instance, load_instance
from engine.state.layout import Layout

__all__ = ["DEADLINE_S", "CommandLine", "FakeSandbox", "Ran", "start_fake", "write_instance"]
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Ran:
    """A finished command."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs `sandbox ARGV...`; `audit` is where the process writes each connection and process that it tries."""

    def __init__(self, directory: Path, forks: ForkServer) -> None:
        self.forks = forks
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

    def __call__(
        self,
        *argv: str,
        cwd: Path | None = None,
        stdin: str | None = None,
        changes: Mapping[str, object] | None = None,
        main: str = "engine.cli.main:main",
        **env: str,
    ) -> Ran:
        with self.forks.start(
            main,
            ["sandbox", *argv],
            env=self.environment(**env),
            cwd=cwd or self.project,
            stdin=stdin is not None,
            changes=changes,
        ) as process:
            out, err = process.communicate((stdin or "").encode())
            ran = Ran(process.wait(), out.decode(), err.decode())
        assert "Traceback" not in ran.err, ran.err
        return ran

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
    process: Forked
    layout: Layout
    forks: ForkServer

    def record(self) -> Instance | None:
        return load_instance(self.layout, self.name)


@contextlib.contextmanager
def start_fake(forks: ForkServer, layout: Layout, project: Path, name: str, *flags: str) -> Iterator[FakeSandbox]:
    argv = ["fake_supervisor.py", name, str(project), *flags]
    with forks.start("fake_supervisor:main", argv, env=os.environ, cwd=project, stdin=True) as process:
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n", process.communicate()
        yield FakeSandbox(name, process, layout, forks)
        # Its standard input is its leash: at the end of it, it ends.
        process.stdin.close()
        process.wait()


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
