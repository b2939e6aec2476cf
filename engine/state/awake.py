"""The running sandbox that a command means, found by as little as that takes: `exec` is called all day.

What is unusual about it (there are several or none, it is paused, its record is damaged, a root is open to others) is
not for this module: `engine.lifecycle.selection` knows it all, and says it.
"""

from __future__ import annotations

import json
import os
import re

from engine.state.processes import is_same_process
from engine.state.roots import CONTROL, INSTANCES, NAME, RECORD, SOCKET_PATH_MAX, is_private, root_of, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VERSION = 1  # of a sandbox's record


class Awake:
    """A sandbox that runs: its control socket, and the directory of the guest in which commands run."""

    def __init__(self, control: str, working_directory: str | None) -> None:
        self.control = control
        self.working_directory = working_directory


def find_awake(env: Mapping[str, str], name: str | None) -> Awake | None:
    """The running sandbox called `name`, or the only one of the project around the working directory.

    None where anything is unusual. Nobody asks the supervisor whether it answers: the caller connects in a moment, and
    learns it then. Raises EngineError for a variable of `env` that cannot name a directory.
    """
    cache, state, runtime = (root_of(root, env) for root in ("cache", "state", "runtime"))
    try:
        if not all(is_private(status) for status in (os.stat(cache), os.stat(state), os.lstat(runtime))):
            return None
        instances = f"{state}/{INSTANCES}"
        record = _of_project(instances, os.getcwd()) if name is None else _read(instances, name)
    except (OSError, ValueError):
        return None
    return _judge(record, runtime) if record else None


def _judge(record: dict[str, Any], runtime: str) -> Awake | None:
    pid, process, directory = (record.get(field) for field in ("pid", "process", "working_directory"))
    if record.get("state") != "running" or type(pid) is not int or not isinstance(process, str):
        return None
    if not is_same_process(pid, process) or not isinstance(directory, str | None):
        return None
    control = f"{runtime}/{shorten(record['name'])}/{CONTROL}"
    return Awake(control, directory) if len(os.fsencode(control)) <= SOCKET_PATH_MAX else None


def _of_project(instances: str, here: str) -> dict[str, Any] | None:
    """The record of the only sandbox of the innermost project around `here` that has any."""
    around: dict[str, list[dict[str, Any]]] = {}
    for name in os.listdir(instances):
        try:
            record = _read(instances, name)
        except FileNotFoundError:
            continue  # what a removed one has left
        project = record["project"].rstrip("/")
        if f"{here}/".startswith(f"{project}/"):
            around.setdefault(project, []).append(record)
    nearest = around[max(around, key=len)] if around else []
    return nearest[0] if len(nearest) == 1 else None


def _read(instances: str, name: str) -> dict[str, Any]:
    """A record whose name, project and version are certain. Raises OSError, and ValueError for one that is damaged."""
    if not re.fullmatch(NAME, name):
        raise ValueError(name)
    with open(f"{instances}/{name}/{RECORD}", encoding="utf-8") as file:
        record = json.load(file)
    if not isinstance(record, dict) or record.get("name") != name or not isinstance(record.get("project"), str):
        raise ValueError(name)
    if not isinstance(record.get("version"), int) or record["version"] > VERSION:
        raise ValueError(name)
    return record
