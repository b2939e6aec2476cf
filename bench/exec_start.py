"""How long `sandbox exec` takes from the start of its process until it says hello to the supervisor."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.state.instances import Instance, save_instance
from engine.state.layout import Layout
from engine.state.processes import describe_process

NAME = "listening"
WAIT_S = 60.0


@contextmanager
def start_listening(env: Mapping[str, str], project: Path) -> Iterator[Callable[[Sequence[str]], float]]:
    """A sandbox that is nothing but a socket: yields what runs a command and gives the seconds until its first byte."""
    layout = Layout.from_environment(env)
    pid = os.getpid()
    paths = layout.instance(NAME)
    record = Instance(
        name=NAME,
        project=str(project),
        file=str(project / "Sandboxfile.yaml"),
        plan_key="0",
        created="2026-01-01T00:00:00+00:00",
        state="running",
        pid=pid,
        process=describe_process(pid),
    )
    paths.sockets.directory.mkdir(mode=0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(paths.sockets.control))
        listener.listen()
        listener.settimeout(WAIT_S)
        save_instance(layout, record)

        def seconds(argv: Sequence[str]) -> float:
            began = time.perf_counter()
            with subprocess.Popen(argv, env=dict(env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
                while True:
                    with listener.accept()[0] as client:
                        client.settimeout(WAIT_S)
                        if client.recv(1):  # a look whether somebody is there sends nothing
                            return time.perf_counter() - began

        try:
            yield seconds
        finally:
            paths.record.unlink()
            paths.record.parent.rmdir()
            paths.sockets.control.unlink()
