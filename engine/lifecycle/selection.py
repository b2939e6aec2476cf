"""Which sandbox a command means, with and without a name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.files import directories_in

if TYPE_CHECKING:
    from engine.state.instance_paths import InstancePaths
    from engine.state.instances import Instance, Listed
    from engine.state.layout import Layout

STARTS_ONE = "`sandbox up` starts one"


def open_layout() -> Layout:
    """The directories of the user, as the environment names them. Raises EngineError."""
    from engine.state.layout import Layout

    return Layout.from_environment(os.environ)


def check_name(layout: Layout, name: str) -> str:
    """Return `name`. Raises EngineError (exit code 2) when a sandbox cannot have that name."""
    try:
        layout.instance(name)
    except EngineError as error:
        rule = "lower-case letters, digits, '-', '_' and '.', at most 64, beginning with a letter or digit"
        raise EngineError(error.brief, error.details, f"a name has {rule}", exit_code=2) from None
    return name


def choose(layout: Layout, name: str | None, answers: Callable[[Path], bool] | None = None) -> Listed:
    """The sandbox called `name`, or the only one of the project around the working directory.

    `answers` asks the supervisor as in `look_up`. Raises EngineError when there is no such sandbox, or more than one.
    """
    listed = find(layout, name, answers)
    if listed is None:
        hint = _failed(layout, None) or _others(layout) or STARTS_ONE
        raise EngineError("no sandbox of this project runs", hint=hint)
    return listed


def find(layout: Layout, name: str | None, answers: Callable[[Path], bool] | None = None) -> Listed | None:
    """Like `choose`, but None where the project has no sandbox."""
    return _named(layout, name, answers) if name is not None else _of_project(layout)


def choose_running(layout: Layout, name: str | None) -> tuple[Instance, Path]:
    """The record and control socket of a sandbox that should answer. Raises EngineError."""
    # The caller connects to the supervisor in a moment, and learns then whether it answers.
    return check_running(layout, choose(layout, name, answers=presume))


def check_running(layout: Layout, listed: Listed) -> tuple[Instance, Path]:
    """The record and control socket of a sandbox that should answer. Raises EngineError."""
    if listed.liveness == "paused":
        raise EngineError(f"the sandbox {listed.name} is paused", hint=f"`sandbox resume {listed.name}` wakes it")
    if listed.liveness not in ("running", "unresponsive") or listed.instance is None:
        hint = "`sandbox up` starts it again" if listed.liveness != "starting" else "wait for `sandbox up` to end"
        if listed.liveness == "stopped" and layout.instance(listed.name).stopped.directory.is_dir():
            hint = f"`sandbox start {listed.name}` starts it"
        raise EngineError(f"the sandbox {listed.name} is not running ({listed.status})", hint=hint)
    return listed.instance, layout.instance(listed.name).sockets.control


def presume(control: Path) -> bool:
    return True


def _named(layout: Layout, name: str, answers: Callable[[Path], bool] | None) -> Listed:
    from engine.state.instances import look_up

    listed = look_up(layout, check_name(layout, name), answers)
    # A command that was killed may have left a directory without a record, which `down` removes.
    if listed.instance is None and listed.liveness == "stopped" and not layout.instance(name).directory.exists():
        hint = _failed(layout, name) or _others(layout) or STARTS_ONE
        raise EngineError(f"there is no sandbox called {name}", hint=hint)
    return listed


def words_of(layout: Layout, name: str | None) -> tuple[InstancePaths, str | None]:
    """The logs of a sandbox; or those of its last start, if that failed, with a note that says so.

    Raises EngineError when there is neither, and when more than one sandbox may be meant.
    """
    from engine.state.evidence import find_evidence

    try:
        return layout.instance(choose(layout, name).name), None
    except EngineError:
        if (evidence := find_evidence(layout, name, Path.cwd())) is None:
            raise
        failed, paths = evidence
        return paths, f"{failed} does not run: this is what its last start left, which failed"


def _failed(layout: Layout, name: str | None) -> str | None:
    from engine.state.evidence import find_evidence

    if (evidence := find_evidence(layout, name, Path.cwd())) is None:
        return None
    failed, paths = evidence
    return f"the last start of {failed} failed; console, journal and log are in {paths.directory}"


def of_project(layout: Layout) -> list[Listed]:
    """All sandboxes of the project around the working directory: of the innermost project that has any."""
    from engine.state.instances import list_instances

    here = Path.cwd()
    around = [
        (len(Path(listed.instance.project).parts), listed)
        # Asking all supervisors would take time, and whether they answer makes no difference here.
        for listed in list_instances(layout, answers=presume)
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
    """The names of all sandboxes, whether they run or not."""
    return [name for name in directories_in(layout.instances) if layout.instance(name).record.exists()]
