"""What scenarios act with: projects, the command line as a user has it, and a look at what is left of a sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from own_place import processes

UP_S = 1800.0  # a cold cache under emulation, on a busy machine
CALL_S = 300.0
DEADLINE_S = 60.0


@dataclass(frozen=True)
class Ran:
    """A finished command."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str
    seconds: float

    def ok(self) -> Ran:
        assert self.code == 0, f"{self.argv} ended with {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"
        return self


@dataclass
class World:
    """One test's own state directory, runtime directory and projects; the cache is the user's."""

    base: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    within: Callable[[Path], list[str]] = lambda cwd: []  # words before each command in a directory (vendors.py)

    def project(self, text: str, files: dict[str, str] | None = None, directory: str = "project") -> Path:
        """A directory with a Sandboxfile.yaml of `text` and `files`."""
        path = self.base / directory
        path.mkdir(parents=True, exist_ok=True)
        (path / "Sandboxfile.yaml").write_text('version: "1"\n' + textwrap.dedent(text))
        for name, content in (files or {}).items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(content)
        return path

    def sandbox(self, *argv: str, cwd: Path, timeout_s: float = CALL_S, stdin: str | None = None, **env: str) -> Ran:
        """Run `sandbox ARGV...` in `cwd` as a user would."""
        began = time.monotonic()
        done = subprocess.run(
            [*self.within(cwd), sys.executable, "-m", "engine.cli.main", *argv],
            cwd=cwd,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**os.environ, **env},
        )
        return Ran(argv, done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def start(self, *argv: str, cwd: Path, **env: str) -> subprocess.Popen[bytes]:
        """Start `sandbox ARGV...` and leave it running."""
        process = subprocess.Popen(
            [sys.executable, "-m", "engine.cli.main", *argv],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
        )
        self.started.append(process)
        return process

    def up(self, cwd: Path, *options: str) -> Ran:
        return self.sandbox("up", "-d", "--yes", "--progress", "plain", *options, cwd=cwd, timeout_s=UP_S).ok()

    def run(self, cwd: Path, script: str, *options: str, timeout_s: float = CALL_S) -> Ran:
        """A shell script in the project's sandbox."""
        return self.sandbox("exec", *options, "--", "sh", "-c", script, cwd=cwd, timeout_s=timeout_s)

    def on(self, cwd: Path, name: str, script: str) -> str:
        """What a shell script in the sandbox `name` says; it must succeed."""
        return self.sandbox("exec", "-n", name, "--", "sh", "-c", script, cwd=cwd).ok().out

    def listed(self, cwd: Path) -> list[dict[str, Any]]:
        return list(json.loads(self.sandbox("ls", "--json", cwd=cwd).ok().out))

    def journal(self, cwd: Path) -> list[dict[str, Any]]:
        lines = self.sandbox("journal", "--json", cwd=cwd).ok().out.splitlines()
        return [json.loads(line) for line in lines]

    def processes(self) -> dict[int, str]:
        """Every live process that was started for this world: its directories are in the environment or arguments."""
        marks = (os.environ["SANDBOX_STATE_DIR"], os.environ["SANDBOX_RUNTIME_DIR"])
        return processes(marks, besides={os.getppid()})

    def close(self) -> None:
        """End what the test left and prove that nothing remains."""
        for process in self.started:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            if process.stdout:
                process.stdout.close()
        self.sandbox("down", "--all", "--yes", cwd=self.base)
        wait_until(lambda: self.processes(), lambda found: not found, "processes are left")
        runtime = Path(os.environ["SANDBOX_RUNTIME_DIR"])
        left = wait_until(
            lambda: [path.name for path in runtime.iterdir() if path.name != "README"],
            lambda names: not names,
            "sockets are left",
        )
        assert not left


def wait_until(look: Callable[[], Any], good: Callable[[Any], bool], what: str, timeout_s: float = DEADLINE_S) -> Any:
    """Look again until it is good; the last look is in the failure."""
    deadline = time.monotonic() + timeout_s
    while True:
        seen = look()
        if good(seen):
            return seen
        assert time.monotonic() < deadline, f"{what} after {timeout_s:.0f} s: {seen}"
        time.sleep(0.05)
