"""The console script `sandbox`."""

from __future__ import annotations

import gc
import os
import sys

from engine.cli.door import open_closed_streams
from engine.cli.names import COMPLETE

TYPE_CHECKING = False  # the road of `exec` does without typing, as without whatever else takes milliseconds to import
if TYPE_CHECKING:
    from typing import Any, NoReturn


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command, and end the process with its exit code."""
    open_closed_streams()
    # Imports make many objects and hardly any garbage. Collecting garbage again and again would take 5 % of the start.
    gc.set_threshold(100_000, 20, 100)
    try:
        from engine.cli.boundary import INTERRUPTED, guarded
    except (OSError, MemoryError) as error:  # what shows errors cannot be loaded itself
        print(f"error: this command could not be loaded: {error or 'there is no memory left for it'}", file=sys.stderr)
        sys.exit(1)

    given, is_light = sys.argv[1:] if arguments is None else arguments, False

    def run() -> Any:
        nonlocal is_light
        code = _run_light(given)
        is_light = code is not None
        return code if is_light else _run(given)

    code = guarded(run)
    gc.freeze()  # so that the last collection, at exit, skips these objects, too
    # Where ^C came while a module was imported that makes code of text, as dataclasses do, `python -m` would take
    # it for one that nobody has caught, and end by the signal (unhandled_keyboard_interrupt in Modules/main.c).
    if (is_light or code == INTERRUPTED) and arguments is None:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> None:
    """End this process at once, unless a thread still works or there is something to say about its streams.

    The usual end frees every module, one after the other: 5 ms of the 50 that `exec` takes.
    """
    threading = sys.modules.get("threading")
    if threading and threading.active_count() > 1:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # the usual end says what is wrong with them
    os._exit(code)


def _run_light(arguments: list[str]) -> int | None:
    """Run a command that does without click; None where this one does not, or not now."""
    if arguments[:1] == ["exec"] and not os.environ.get(COMPLETE):
        # `exec` is called all day, and importing click is half of its start: usual calls are read without click.
        from engine.cli.exec_call import read_call, run_call

        if call := read_call(arguments[1:]):
            return run_call(call)
    elif arguments[:1] == ["up"] and not os.environ.get(COMPLETE):
        # A sandbox that was started before is started again before anything that reads files is loaded.
        from engine.cli.up_call import read_up, run_up

        if (up := read_up(arguments[1:])) is not None:
            return run_up(up)
    return None


def _run(arguments: list[str]) -> Any:
    from engine.cli.deferred import defer_metadata

    defer_metadata()
    if arguments[:1] == ["validate"] and not os.environ.get(COMPLETE):
        from engine.cli.validation import read_path, validate

        if path := read_path(arguments[1:]):
            return validate(path if arguments[1:] else None)
    from engine.cli.group import run

    return run(arguments)


if __name__ == "__main__":
    main()
