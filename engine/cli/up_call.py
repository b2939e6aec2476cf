"""`sandbox up` of a sandbox that was started before and of which nothing has changed since.

Reading and checking a file again takes longer than starting its machine. So calls of the usual form are read here,
without click, and start from what was kept. Every other call, and every doubt, is left to `commands/up.py`.
"""

from __future__ import annotations

import getopt
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import EngineError
from engine.lifecycle.selection import open_layout
from engine.report.timings import Timings

if TYPE_CHECKING:
    from engine.state.instances import Instance
    from engine.state.layout import Layout

_LONG = ["detach", "yes", "name=", "json", "timings", "progress="]
_KNOWN = {f"--{name.rstrip('=')}" for name in _LONG}


class UpCall(NamedTuple):
    """The options of one call."""

    path: str = ""
    detach: bool = False
    yes: bool = False
    name: str | None = None
    as_json: bool = False
    timings: bool = False


def read_up(arguments: Sequence[str]) -> UpCall | None:
    """The call, if it has only usual options; else None."""
    # getopt accepts abbreviated long options, and click does not.
    if any(word.startswith("--") and word.partition("=")[0] not in _KNOWN for word in arguments):
        return None
    try:
        options, words = getopt.gnu_getopt(list(arguments), "dyn:", _LONG)
    except getopt.GetoptError:
        return None
    call = UpCall()
    for option, value in options:
        match option:
            case "-d" | "--detach":
                call = call._replace(detach=True)
            case "-y" | "--yes":
                call = call._replace(yes=True)
            case "-n" | "--name":
                call = call._replace(name=value)
            case "--json":
                call = call._replace(as_json=True, detach=True)
            case "--progress" if value in ("auto", "quiet"):  # there is none to show in a second
                pass
            case "--progress":
                return None
            case "--timings":
                call = call._replace(timings=True)
    if len(words) > 1 or call.name == "":
        return None
    return call._replace(path=str(Path(words[0]))) if words else call


def run_up(call: UpCall) -> int | None:
    """Start the sandbox as it was started before; the exit code, or None where that cannot be done."""
    from engine.recall.memory import forget, recall, words_of

    timings = Timings()
    timings.begin("looking whether anything has changed")
    try:
        layout = open_layout()
        words = words_of(call.path, call.name, yes=call.yes)
        start = recall(layout, words, os.environ, time.time())
        if start is not None and not call.detach:
            from engine.cli.agent_terminal import chosen_keys

            chosen_keys(None)  # what is wrong with them is said before anything is started
    except (EngineError, FileNotFoundError):  # the latter of the working directory
        return None  # the usual way says what is wrong
    if start is None:
        return None
    from engine.lifecycle.again import NotAgain, start_again

    timings.begin("starting the supervisor")
    try:
        instance = start_again(layout, start, os.environ, timings.begin, _load_the_rest)
    except NotAgain as error:
        if error.tried:
            forget(layout, words)
        return None
    if call.timings:
        sys.stderr.write(timings.render())
    return _show(layout, call, instance, timings.seconds)


def _load_the_rest() -> None:
    """What this process needs when the sandbox is ready, while it waits for that."""
    import engine.cli.commands.up
    import engine.cli.showing.summary  # noqa: F401


def _show(layout: Layout, call: UpCall, instance: Instance, seconds: float) -> int:
    from engine.cli.commands.up import show_again
    from engine.lifecycle.outcome import Outcome

    outcome = Outcome(instance, "started", (), seconds)
    return show_again(layout, outcome, detach=call.detach, as_json=call.as_json)
