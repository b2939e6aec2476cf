"""The records of sandboxes: which project owns a name, and whether the supervisor of the sandbox still runs."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from engine.decoding import decode
from engine.errors import EngineError
from engine.files import directories_in, make_private, read_json, write_json
from engine.scarcity import is_scarcity
from engine.state.awake import VERSION
from engine.state.layout import Layout
from engine.state.processes import is_same_process

ANSWER_S = 1.0  # an idle supervisor answers in milliseconds; one that takes longer than this counts as unresponsive

State = Literal["starting", "running", "failed", "stopped", "paused"]
Liveness = Literal["starting", "running", "failed", "stopped", "paused", "dead", "unresponsive", "unreadable"]


class AgentCall(NamedTuple):
    """How the sandbox's agent is started in its guest."""

    command: list[str]
    user: str
    env: dict[str, str] = {}  # noqa: RUF012 - nobody changes a record in place


class Keeps(NamedTuple):
    """What of the home `home` of the agent's user is kept for the next sandbox of its name: `paths` from there."""

    home: str
    user: str
    paths: list[str]


class Instance(NamedTuple):
    """The record of one sandbox. `created` is ISO 8601 in UTC.

    It is a named tuple, as is everything that `exec` needs before it connects: importing dataclasses takes as long as
    starting Python.

    `pid` and `process` are those of the supervisor. `process` is the text of `describe_process`: the pid alone may have
    been given to another process since. `plan_key` is the key of the sandbox's Configuration. `agent_name` is the key
    in `agents`, if the file has several. Commands run in `working_directory` of the guest. `ended` says why a sandbox
    stopped by itself, `error` why it failed, and `warnings` what is wrong while it runs. `temporary` are the endpoints
    that are allowed or denied until it ends, or earlier, and `asks` those that the guest would like to have.
    `keeps` is what is saved when it ends. `clones` are private copies: what was copied, and where it is in the guest.
    """

    name: str
    project: str
    file: str
    plan_key: str
    created: str
    state: State
    pid: int | None = None
    process: str | None = None
    ports: list[dict[str, Any]] = []  # noqa: RUF012
    mounts: list[dict[str, Any]] = []  # noqa: RUF012
    services: dict[str, Any] = {}  # noqa: RUF012
    agent: AgentCall | None = None
    agent_name: str | None = None
    working_directory: str | None = None
    ended: str | None = None
    error: str | None = None
    warnings: list[str] = []  # noqa: RUF012
    temporary: list[dict[str, Any]] = []  # noqa: RUF012
    asks: list[dict[str, Any]] = []  # noqa: RUF012
    keeps: Keeps | None = None
    clones: list[dict[str, Any]] = []  # noqa: RUF012
    version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        """As a JSON value."""
        parts = {"agent": self.agent, "keeps": self.keeps}
        return {**self._asdict(), **{name: part._asdict() if part else None for name, part in parts.items()}}


class Listed(NamedTuple):
    """A sandbox as it is now; `status` describes it in words. `instance` is None when the record cannot be read."""

    name: str
    liveness: Liveness
    status: str
    instance: Instance | None = None


def save_instance(layout: Layout, instance: Instance) -> None:
    """Write the record in one step, and make its directory if there is none. Raises EngineError."""
    path = layout.instance(instance.name).record
    try:
        write_json(path, instance.to_json())
    except OSError as error:
        raise EngineError(f"cannot write {path}: {error.strerror}") from error


def load_instance(layout: Layout, name: str) -> Instance | None:
    """The record of a sandbox; None when there is no such sandbox.

    Raises EngineError for a record that is damaged or of a newer version, and OSError where there is too little of
    something to read it.
    """
    return read_record(layout.instance(name).record, name)


def read_record(path: Path, name: str) -> Instance | None:
    """The record of the sandbox `name` in the file `path`; otherwise as `load_instance`."""
    try:
        record = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if is_scarcity(error):
            raise
        raise _unreadable(name, path, str(error)) from error
    return _parse(record, name, path)


def list_instances(layout: Layout, answers: Callable[[Path], bool] | None = None) -> list[Listed]:
    """Every sandbox, ordered by name.

    `answers` says whether the supervisor behind a control socket answers; default: `takes_connection`, which waits up
    to ANSWER_S for each sandbox that should run. A damaged record is listed, and raises nothing.
    """
    return [look_up(layout, name, answers) for name in directories_in(layout.instances)]


def look_up(layout: Layout, name: str, answers: Callable[[Path], bool] | None = None) -> Listed:
    """One sandbox as it is now. A name without a record is listed as "stopped"."""
    try:
        instance = load_instance(layout, name)
        paths = layout.instance(name)
        control = paths.sockets.control
    except EngineError as error:
        return Listed(name, "unreadable", f"unreadable: {error.brief}")
    if instance is None:
        return Listed(name, "stopped", "stopped: it has no record")
    if instance.state in ("failed", "stopped", "paused"):
        why = f": {instance.ended}" if instance.ended else ""
        return Listed(name, instance.state, f"{instance.state}{why}", instance)
    if instance.pid is None or instance.process is None or not is_same_process(instance.pid, instance.process):
        if paths.paused.directory.is_dir():  # its supervisor was killed when that was written, or when it read it
            return Listed(name, "paused", "paused", instance)
        if paths.stopped.directory.is_dir():  # it was killed on the way to a stop, or from one: the disk is there
            return Listed(name, "stopped", "stopped", instance)
        return Listed(name, "dead", "dead: supervisor was killed", instance)
    if instance.state == "starting":
        return Listed(name, "starting", "starting", instance)
    if not (answers or takes_connection)(control):
        return Listed(name, "unresponsive", f"unresponsive: supervisor {instance.pid} does not answer", instance)
    return Listed(name, "running", "running", instance)


def takes_connection(control: Path) -> bool:
    """Whether a process accepts a connection on the socket within ANSWER_S."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(ANSWER_S)
        try:
            client.connect(str(control))
        except OSError:
            return False
        return True


@contextlib.contextmanager
def hold_name(layout: Layout, name: str) -> Iterator[None]:
    """Within the block, keep other commands from bringing `name` up or down.

    Raises EngineError at once when another command does that now. The name is released with the block, and also when
    this process dies.
    """
    from filelock import FileLock, Timeout  # here, since the import takes 10 ms and `exec` and `ls` do not need it

    path = layout.instance_lock(name)
    make_private(path.parent)
    lock = FileLock(path, mode=0o600)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise EngineError(
            f"another command is bringing {name} up or down", hint="wait for it, or use --name for a second sandbox"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def claim(layout: Layout, name: str, project: Path) -> Iterator[Instance | None]:
    """Hold `name` for `project` (absolute, without links); yields the sandbox's record, None when there is none yet.

    Raises EngineError as `hold_name` does, when another project owns the name, and when the record cannot be read.
    """
    with hold_name(layout, name):
        instance = load_instance(layout, name)
        check_owner(instance, project)
        yield instance


def check_owner(instance: Instance | None, project: Path) -> None:
    """Raises EngineError when the sandbox belongs to another project."""
    if instance is not None and Path(instance.project) != project:
        raise EngineError(
            f"the name {instance.name} is taken by {instance.project}",
            hint=f"use --name to choose another, or `sandbox down {instance.name}`",
        )


def forget_instance(layout: Layout, name: str) -> None:
    """Remove all files of a sandbox: record, logs, disk, sockets. Its processes must have ended.

    Raises OSError where there is too little of something to look at them; they may be there then.
    """
    from engine.state.trees import remove_tree

    paths = layout.instance(name)
    # The record goes last: if this is interrupted, the sandbox is still listed and `down` can be called again.
    for path in paths.directory.glob("*"):
        if path != paths.record:
            remove_tree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for directory in (paths.sockets.directory, paths.directory):
        remove_tree(directory)
        if directory.exists():
            os.scandir(directory).close()  # says what there is too little of
            remove_tree(directory)


def _parse(record: Any, name: str, path: Path) -> Instance:
    if not isinstance(record, Mapping) or not isinstance(record.get("version"), int):
        raise _unreadable(name, path, "it is not an object with a version")
    if record["version"] > VERSION:
        raise EngineError(
            f"the sandbox {name} was made by a newer version of sandbox",
            details=f"{path} has version {record['version']}, this one reads {VERSION}",
            hint="use the newer version, also to take it down",
        )
    try:
        instance = decode(Instance, record)
    except ValueError as error:
        raise _unreadable(name, path, str(error)) from error
    if instance.name != name:
        raise _unreadable(name, path, "it is about another sandbox")
    return instance


def _unreadable(name: str, path: Path, details: str) -> EngineError:
    return EngineError(
        f"the record of sandbox {name} is damaged",
        details=f"{path}: {details}",
        hint=f"`sandbox down {name}` removes it",
    )
