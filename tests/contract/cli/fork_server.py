"""Processes by fork from one that has imported everything already: `fork_server.py FD`.

Starting Python and importing the engine costs a hundred times more than most commands that the tests run. Each request
is one packet, JSON and four descriptors: standard input, output, error, and where to write the process number and,
later, the exit code. The process is as good as a new one (arguments, environment, directory, streams, signals, no
descriptor but its own), except that modules are loaded, and not unloaded at the end: test_start_up.py, test_manners.py
and whatever needs a terminal start new ones.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import audit_hook

PRELOADED = (
    "asyncio",
    "fake_supervisor",
    "nowhere",
    "engine.cli.main",
    "engine.cli.boundary",
    "engine.lifecycle.selection",
)
PRELOADED += (
    "engine.build.blueprint",
    "engine.build.nodes",
    "engine.lifecycle.down",
    "engine.resolve.registries",
    "engine.secrets.probe",
    "vmm.channel.client",
    "rich.console",
)
SERVICES = 'version: "1"\nservices: {a: {image: a}}\n'  # so that the judge of services is loaded as well

Main = Callable[[], Any]


def preload() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    from engine.cli.names import COMMANDS, module_of

    for name in COMMANDS:
        importlib.import_module(module_of(name))
    from sandboxfile import parse

    parse(SERVICES, Path("/project/Sandboxfile.yaml"))


def serve(requests: socket.socket) -> Main | None:
    """Answer requests until their end (None); in each forked process: the function that it is to run."""
    running: dict[int, tuple[int, int]] = {}  # pidfd -> process number, where its code goes
    while True:
        for ready in select.select([requests.fileno(), *running], [], [])[0]:
            if ready in running:
                pid, status = running.pop(ready)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                os.close(ready)
                tell(status, code)
                os.close(status)
                continue
            packet, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 4)
            if not packet:
                return None
            pid = os.fork()
            if pid == 0:
                requests.detach()
                return become(json.loads(packet), descriptors[:3])
            running[os.pidfd_open(pid)] = pid, descriptors[3]
            tell(descriptors[3], pid)
            for descriptor in descriptors[:3]:
                os.close(descriptor)


def tell(status: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever asked does not care any more
        os.write(status, b"%d\n" % number)


def become(request: dict[str, Any], streams: list[int]) -> Main:
    """Make this process what was asked for."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["argv"]
    for place, value in request["changes"].items():
        module, _, name = place.rpartition(".")
        assert hasattr(sys.modules[module], name)
        setattr(sys.modules[module], name, value)
    if "AUDIT_FILE" in os.environ:
        sys.addaudithook(audit_hook.hook)
    module, _, name = request["main"].partition(":")
    main: Main = getattr(sys.modules[module], name)
    return main


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is for the tests; they close our socket
    preload()
    gc.freeze()
    if todo := serve(socket.socket(fileno=int(sys.argv[1]))):
        try:
            todo()
        except SystemExit as end:
            # Not the interpreter's long way out, which frees every module: it takes three times as long as the rest.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
