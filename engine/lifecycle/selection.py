"""Which sandbox a command means, when it is told and when it is not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.state.instances import Instance, Listed
    from engine.state.layout import InstancePaths, Layout

STARTS_ONE = "`sandbox up` starts one"


def open_layout() -> Layout:
    """The user's directories. Raises EngineError."""
    from engine.state.layout import Layout

    return Layout.from_environment(os.environ)


def check_name(layout: Layout, name: str) -> str:
    """The name itself. Raises EngineError (exit code 2) when no sandbox can be called so."""
    try:
        layout.instance(name)
    except EngineError as error:
        rule = "lower-case letters, digits, '-', '_' and '.', at most 64, beginning with a letter or digit"
        raise EngineError(error.brief, error.details, f"a name has {rule}", exit_code=2) from None
    return name


def choose(layout: Layout, name: str | None, answers: Callable[[Path], bool] | None = None) -> Listed:
    """The sandbox called `name`, or the only one of the project around the working directory.

    `answers` asks the supervisor as in `look_up`. Raises EngineError when there is none or more than one.
    """
    found = find(layout, name, answers)
    if found is None:
        hint = _failed(layout, None) or _others(layout) or STARTS_ONE
        raise EngineError("no sandbox of this project runs", hint=hint)
    return found


def find(layout: Layout, name: str | None, answers: Callable[[Path], bool] | None = None) -> Listed | None:
    """Like `choose`, but None where the project has no sandbox."""
    return _named(layout, name, answers) if name is not None else _of_project(layout)


def choose_running(layout: Layout, name: str | None) -> tuple[Instance, Path]:
    """The record and control socket of a sandbox that should answer. Raises EngineError."""
    # Whether it answers is for whoever talks to it to find out.
    listed = choose(layout, name, answers=_presume)
    if listed.liveness not in ("running", "unresponsive") or listed.instance is None:
        hint = "`sandbox up` starts it again" if listed.liveness != "starting" else "wait for `sandbox up` to end"
        raise EngineError(f"the sandbox {listed.name} is not running ({listed.status})", hint=hint)
    return listed.instance, layout.instance(listed.name).sockets.control


def _presume(control: Path) -> bool:
    return True


def _named(layout: Layout, name: str, answers: Callable[[Path], bool] | None) -> Listed:
    from engine.state.instances import look_up

    listed = look_up(layout, check_name(layout, name), answers)
    if listed.instance is None and listed.liveness == "stopped":
        hint = _failed(layout, name) or _others(layout) or STARTS_ONE
        raise EngineError(f"there is no sandbox called {name}", hint=hint)
    return listed


def words_of(layout: Layout, name: str | None) -> InstancePaths:
    """The files of the sandbox that is meant; where there is none, those of its last start, which failed.

    Raises EngineError when there is neither, or more than one.
    """
    from engine.report.text import clean_line
    from engine.state.evidence import find_evidence

    try:
        return layout.instance(choose(layout, name).name)
    except EngineError:
        if (found := find_evidence(layout, name, Path.cwd())) is None:
            raise
        failed, paths = found
        print(clean_line(f"{failed} does not run: this is what its last start left, which failed"), file=sys.stderr)
        return paths


def _failed(layout: Layout, name: str | None) -> str | None:
    from engine.state.evidence import find_evidence

    if (found := find_evidence(layout, name, Path.cwd())) is None:
        return None
    failed, paths = found
    return f"the last start of {failed} failed; console, journal and log are in {paths.directory}"


def of_project(layout: Layout) -> list[Listed]:
    """All sandboxes of the project around the working directory, of the innermost one that has any."""
    from engine.state.instances import list_instances

    here = Path.cwd()
    around = [
        (len(Path(listed.instance.project).parts), listed)
        # Asking all of them would take time.
        for listed in list_instances(layout, answers=_presume)
        if listed.instance is not None and here.is_relative_to(listed.instance.project)
    ]
    return [listed for depth, listed in around if depth == max(depth for depth, _ in around)]


def _of_project(layout: Layout) -> Listed | None:
    nearest = of_project(layout)
    if len(nearest) > 1:
        names = ", ".join(listed.name for listed in nearest)
        raise EngineError(f"this project has several sandboxes: {names}", hint="say which one by its name")
    return nearest[0] if nearest else None


def _others(layout: Layout) -> str | None:
    names = ", ".join(names_of_sandboxes(layout))
    return f"there is: {names}" if names else None


def names_of_sandboxes(layout: Layout) -> list[str]:
    """All names, without a look at what runs."""
    return sorted(path.parent.name for path in layout.instances.glob("*/instance.json"))
