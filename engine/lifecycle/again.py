"""Starting a sandbox as it was started before, from values that were kept: nothing is read, checked or built.

This module and what it imports load in a few milliseconds; everything else is loaded while the machine starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError
from engine.files import make_private, write_json
from engine.lifecycle.failed_start import leave_evidence
from engine.lifecycle.supervisor_process import Spawned, ended_early, read_event, spawn_supervisor
from engine.state.instances import Instance, claim, forget_instance, load_instance
from engine.state.processes import describe_process

if TYPE_CHECKING:
    from engine.recall.memory import Start
    from engine.state.layout import Layout


class NotAgain(Exception):
    """The sandbox cannot be started from here: one of its name is there already, or its start has been `tried`."""

    def __init__(self, *, tried: bool = False) -> None:
        super().__init__()
        self.tried = tried


def start_again(
    layout: Layout,
    start: Start,
    environment: Mapping[str, str],
    on_step: Callable[[str], None],
    meanwhile: Callable[[], None],
) -> Instance:
    """Start the sandbox of `start`; returns its record when it is ready.

    `on_step` hears of each step; `meanwhile` is called once while the machine starts. Raises NotAgain: then nothing is
    left of the attempt, and the usual way is open. A signal to stop ends the attempt, and raises KeyboardInterrupt or
    SystemExit.
    """
    name = str(start.record["name"])
    if start.launch["roots"] != layout.to_environment() or layout.instance(name).record.exists():
        raise NotAgain
    spawned = spawn_supervisor(layout)  # it loads its modules meanwhile
    with _signals():
        try:
            with _until_ready(spawned), claim(layout, name, Path(start.record["project"])) as there:
                if there is not None:
                    raise NotAgain
                _carry_out(layout, name, start, spawned, environment, on_step, meanwhile)
            record = load_instance(layout, name)
        except EngineError as error:
            raise NotAgain from error
        if record is None:
            raise NotAgain
        return record


def _carry_out(
    layout: Layout,
    name: str,
    start: Start,
    spawned: Spawned,
    environment: Mapping[str, str],
    on_step: Callable[[str], None],
    meanwhile: Callable[[], None],
) -> None:
    paths = layout.instance(name)
    try:
        forget_instance(layout, name)
        make_private(paths.directory)
        for entry in start.entries:
            os.utime(layout.entry_marker(Path(entry)))  # the time of its last use
        write_json(paths.configuration, start.running)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        process = describe_process(spawned.pid)
        write_json(paths.record, {**start.record, "pid": spawned.pid, "process": process, "created": now})
        _send(spawned, _launch(start, environment))
        if layout.ssh_config.exists():
            from engine.lifecycle.ssh import write_alias

            with contextlib.suppress(EngineError, OSError):  # an editor's comfort is no reason to have no sandbox
                write_alias(layout, name)
        with _holding(layout, start):
            meanwhile()
            _hear(spawned, paths.supervisor_log, on_step)
    except (EngineError, OSError) as error:
        spawned.give_up()
        leave_evidence(layout, name)
        raise NotAgain(tried=True) from error
    except BaseException:
        try:
            spawned.give_up()
        finally:
            with contextlib.suppress(EngineError, OSError):
                forget_instance(layout, name)
        raise


@contextlib.contextmanager
def _until_ready(spawned: Spawned) -> Iterator[None]:
    """The supervisor outlives the block; when the block fails, it ends with everything it owns."""
    try:
        yield
    except BaseException:
        spawned.give_up()
        raise
    finally:
        spawned.release()


@contextlib.contextmanager
def _holding(layout: Layout, start: Start) -> Iterator[None]:
    """Within the block nobody prunes what the sandbox is started from; afterwards its disk says what it stands on.

    Raises EngineError where something was taken away before.
    """
    from engine.cache.holds import hold_entries

    entries = [Path(entry) for entry in start.entries]
    with hold_entries(layout) as hold:
        hold.add(f"{entry.parent.name}/{entry.name}" for entry in entries)
        if not all(layout.entry_marker(entry).exists() for entry in entries):
            raise EngineError("entries of the cache have gone away")
        yield


def _launch(start: Start, environment: Mapping[str, str]) -> bytes:
    """The Launch with the values that were left out: the user's proxies, and what reading secrets needs."""
    from engine.gateway.host_proxies import host_variables

    value: dict[str, Any] = dict(start.launch)
    needed = {name: environment[name] for name in start.needs if name in environment}
    value["secrets"] = {**value["secrets"], "environment": needed}
    value["proxies"] = host_variables(environment)
    return json.dumps(value).encode() + b"\n"


def _send(spawned: Spawned, launch: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # the supervisor has ended: whoever listens finds out why
        spawned.connection.sendall(launch)


def _hear(spawned: Spawned, log: Path, on_step: Callable[[str], None]) -> None:
    with spawned.connection.makefile("rb") as lines, contextlib.suppress(ConnectionError):
        for line in lines:
            if read_event(line, lambda text: None, on_step) is not None:
                return
    raise ended_early(log, spawned.words)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Within the block ^C, TERM and HUP end what goes on, once: what cleans up is not ended by another one, such as the
    second that `timeout` sends. A signal that is ignored stays ignored.
    """
    came: list[int] = []

    def end(number: int, frame: object) -> None:
        if came:
            return
        came.append(number)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    usual = (signal.SIG_DFL, signal.default_int_handler)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) in usual}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
