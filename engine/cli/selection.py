"""Which sandbox or file a command means when it is not told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.instances import Instance, Listed, list_instances, look_up
from engine.layout import Layout

if TYPE_CHECKING:
    from sandboxfile import Loaded


def open_layout() -> Layout:
    """The user's directories."""
    return Layout.from_environment(os.environ)


def choose(layout: Layout, name: str | None) -> Listed:
    """The sandbox called `name`, or the only one of the project around the working directory.

    Raises EngineError when there is none or more than one.
    """
    if name is not None:
        listed = look_up(layout, name)
        if listed.instance is None and listed.liveness == "stopped":
            known = ", ".join(other.name for other in list_instances(layout))
            raise EngineError(f"there is no sandbox called {name}", hint=f"there is: {known}" if known else NONE)
        return listed
    here = Path.cwd()
    around = [
        (len(Path(listed.instance.project).parts), listed)
        for listed in list_instances(layout, answers=lambda control: True)
        if listed.instance is not None and here.is_relative_to(listed.instance.project)
    ]
    if not around:
        raise EngineError("no sandbox of this project runs", hint=NONE)
    nearest = [listed for depth, listed in around if depth == max(depth for depth, _ in around)]
    if len(nearest) > 1:
        names = ", ".join(listed.name for listed in nearest)
        raise EngineError(f"this project has several sandboxes: {names}", hint="say which one")
    return nearest[0]


NONE = "`sandbox up` starts one"


def choose_running(layout: Layout, name: str | None) -> tuple[Instance, Path]:
    """The record and control socket of a sandbox that should answer. Raises EngineError."""
    listed = choose(layout, name)
    if listed.liveness not in ("running", "unresponsive") or listed.instance is None:
        raise EngineError(f"the sandbox {listed.name} is not running ({listed.status})", hint=NONE)
    return listed.instance, layout.instance(listed.name).sockets.control


def load_file(path: Path | None) -> Loaded:
    """The checked file: `path` is a directory or a file, default the nearest one upwards.

    Raises EngineError (exit code 2) when there is none, SandboxfileError for its problems.
    """
    from sandboxfile import find, load

    if path is not None and not path.is_dir():
        return load(path.absolute())
    start = (path or Path.cwd()).absolute()
    if path is not None:
        found = next((path / name for name in ("Sandboxfile.yaml", "Sandboxfile.yml") if (path / name).is_file()), None)
    else:
        found = find(start)
    if found is None:
        where = f"in {start}" if path is not None else f"in {start} or any directory above it"
        raise EngineError(
            f"no Sandboxfile.yaml {where}",
            hint="a first one: printf 'version: \"1\"\\nmounts: [.:/workspace]\\n' > Sandboxfile.yaml",
            exit_code=2,
        )
    return load(found)
