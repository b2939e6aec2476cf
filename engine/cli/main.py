"""The console script `sandbox`."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any, NoReturn

from engine.cli.door import open_closed_streams
from engine.cli.names import COMPLETE


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command, and end the process with its exit code."""
    open_closed_streams()
    # Imports make many objects and hardly any garbage. Collecting garbage again and again would take 5 % of the start.
    gc.set_threshold(100_000, 20, 100)
    from engine.cli.boundary import guarded

    code = guarded(lambda: _run(sys.argv[1:] if arguments is None else arguments))
    gc.freeze()  # so that the last collection, at exit, skips these objects, too
    sys.exit(code)


def _run(arguments: list[str]) -> Any:
    if arguments[:1] == ["exec"] and not os.environ.get(COMPLETE):
        # `exec` is called all day, and importing click is half of its start: usual calls are read without click.
        from engine.cli.exec_call import read_call, run_call

        if call := read_call(arguments[1:]):
            return run_call(call)
    if arguments[:1] == ["up"] and not os.environ.get(COMPLETE):
        # A sandbox that was started before is started again before anything that reads files is loaded.
        from engine.cli.up_call import read_up, run_up

        if (up := read_up(arguments[1:])) is not None and (code := run_up(up)) is not None:
            return code
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
