"""A supervisor as `up` sees it: a process to be started, a Launch to be sent, and what it says until it is ready.

This module loads nothing that takes long, so that the supervisor can load its own modules while `up` loads others.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import EngineError, MachineSilent
from vmm.environment import CARRIER_VARIABLE, clean_environment

if TYPE_CHECKING:
    from engine.state.layout import Layout

# Where sockets may be, which Python this is, what carries packets, and whom the user trusts: the gateway verifies
# servers as the user does.
PASSED_ON = ("XDG_RUNTIME_DIR", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR")  # paths
STOP_S = 15.0  # a supervisor that lost its `up` takes its machine down and ends
TAIL = 1 << 14  # bytes


class Spawned(NamedTuple):
    """A supervisor that loads its modules and waits for its Launch on `connection`; `words` gets what it says first."""

    process: subprocess.Popen[bytes]
    connection: socket.socket
    words: int

    @property
    def pid(self) -> int:
        return self.process.pid

    def give_up(self) -> None:
        """Close the connection, at which it takes down what it owns and ends; waits up to STOP_S, then kills it."""
        self.connection.close()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def release(self) -> None:
        """Let it live on its own."""
        self.connection.close()
        os.close(self.words)


def spawn_supervisor(layout: Layout) -> Spawned:
    """Start a supervisor process. It outlives this one once it is ready, and ends with the connection before."""
    ours, theirs = socket.socketpair()
    words = _nameless_file()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "engine.supervisor.beginning"],
            stdin=theirs.fileno(),
            stdout=words,
            stderr=words,
            cwd="/",
            env=environment(layout),
            start_new_session=True,
        )
    return Spawned(process, ours, words)


def read_event(
    line: bytes, on_event: Callable[[str], None], on_step: Callable[[str], None] = lambda title: None
) -> list[dict[str, Any]] | None:
    """Pass on what a supervisor says in one line; its services, when it says that the sandbox is ready.

    `on_step` hears of each new step, before `on_event` does.

    Raises EngineError with its reason when the start has failed, MachineSilent where the guest did not answer.
    """
    event = json.loads(line)
    match event["event"]:
        case "step":
            on_step(event["title"])
            on_event(event["title"])
        case "line":
            on_event(event["text"])
        case "failed":
            kind = MachineSilent if event.get("silent") else EngineError
            raise kind(event["brief"], event["details"], event["hint"])
        case "ready":
            return list(event["services"])
    return None


def ended_early(log: Path, words: int) -> EngineError:
    """The error for a supervisor that said neither that it is ready nor why not."""
    said = _tail(log.read_bytes() if log.exists() else b"") or _tail(os.pread(words, TAIL, 0))
    return EngineError("the supervisor ended before the sandbox was ready", details=said or None)


def environment(layout: Layout) -> dict[str, str]:
    """The supervisor sees no more of the user's environment than programs need; secrets in it stay out."""
    # The supervisor works in another directory.
    variables = {name: str(Path(os.environ[name]).absolute()) for name in PASSED_ON if os.environ.get(name)}
    if carrier := os.environ.get(CARRIER_VARIABLE):
        variables[CARRIER_VARIABLE] = carrier
    found = clean_environment({**variables, **layout.to_environment()})
    # Proxies come with the Launch: others may read the environment of a process, and those may hold credentials.
    return {name: value for name, value in found.items() if not name.lower().endswith("_proxy")}


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("words", os.MFD_CLOEXEC)
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _tail(text: bytes, most: int = 20) -> str:
    from vmm.last_words import without_traceback

    return without_traceback("\n".join(text.decode(errors="replace").splitlines()[-most:]))
