"""Where errors become text and exit codes: 0, 1 failed, 2 bad file or usage, 3 our bug, 130 interrupted."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

import click


def guarded(action: Callable[[], Any]) -> int:
    """Run `action` and return the exit code; an int that it returns is the code."""
    try:
        code = action()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone: not an error, and nothing more may be written at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BaseExceptionGroup as group:
        return show(group.exceptions[0])
    except Exception as error:
        return show(error)


def show(error: BaseException) -> int:
    """Print an error as brief, details and hint, and return its exit code."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    if hasattr(error, "diagnostics"):  # a bad file: each problem with its place, line and caret
        print(error, file=sys.stderr)
        return 2
    if not hasattr(error, "brief"):
        import traceback

        traceback.print_exception(error)
        print("\nerror: this is a bug in sandbox; please report it with the lines above", file=sys.stderr)
        return 3
    print(f"error: {error.brief}", file=sys.stderr)
    for line in str(getattr(error, "details", None) or "").splitlines():
        print(f"  {line}", file=sys.stderr)
    if hint := getattr(error, "hint", None):
        print(f"hint: {hint}", file=sys.stderr)
    return int(getattr(error, "exit_code", 1))
