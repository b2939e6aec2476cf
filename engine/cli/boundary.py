"""Where errors become text and exit codes: 0, 1 failed, 2 bad file or usage, 3 our bug, 130 interrupted."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

# What shows an error is imported when there is one: `exec` hardly ever has any.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FAILED, BAD_USAGE, OUR_BUG, INTERRUPTED, PIPE_BROKEN = 1, 2, 3, 130, 141

# Errors that the machine or the user has caused: they are shown in one line. All other OSErrors are taken for bugs.
_OUTSIDE = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EMFILE", "ENFILE", "ENOMEM", "EIO", "EFBIG")
    if hasattr(errno, name)
)

# What the dynamic linker says of a library for which there were no memory or descriptors (glibc's elf/dl-load.c), and
# what Python says of a function of its own that failed and did not say why: that is the want of memory, too.
_SCARCE = (
    "failed to map segment from shared object",
    "cannot allocate memory",
    "cannot create shared object descriptor",
    "cannot read file data",
    "cannot open shared object file: Error 24",
    "Too many open files",
    "error return without exception set",
    "returned NULL without setting an exception",
)


def guarded(action: Callable[[], Any]) -> int:
    """Run `action` and return the exit code: an int that it returned, else 0. Failures are shown on standard error."""
    try:
        try:
            code = action()
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
        except BaseException as error:
            return show(error)
    except BrokenPipeError:
        _discard_output()  # the reader of our output is gone: that is no failure, and nobody is left to read a message
        return PIPE_BROKEN


def show(error: BaseException) -> int:
    """Print an error as brief, details and hint, and return its exit code. Raises BrokenPipeError.

    For a command with --json it is a document on standard output. An error that is not of a file's content is on
    standard error as well, for the person who waits for what `jq` makes of it.
    """
    error = _first(error)
    if isinstance(error, BrokenPipeError):
        raise error
    if click := sys.modules.get("click"):  # where nothing has imported click, the error is not one of click's
        if isinstance(error, click.exceptions.Exit):
            return int(error.exit_code)
        if isinstance(error, click.ClickException):
            from engine.cli.json_errors import note_unread

            context = getattr(error, "ctx", None)
            note_unread(context)
            _tell(error.format_message(), None, f"`{context.command_path} --help`" if context else None)
            return int(error.exit_code)
        if isinstance(error, click.Abort):
            error = KeyboardInterrupt()
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILED
    if hasattr(error, "diagnostics"):  # a bad file: each problem with its place, line and caret
        if json_errors := _wanted_json():
            _print_document(json_errors.of_file(error.diagnostics))
        else:
            print(_redacted(_within_terminal(error)), file=sys.stderr)
        return BAD_USAGE
    if isinstance(error, FileNotFoundError):
        error = _without_directory(error)
    if hasattr(error, "brief"):
        _tell(error.brief, getattr(error, "details", None), getattr(error, "hint", None))
        return int(getattr(error, "exit_code", FAILED))
    if isinstance(error, OSError) and error.errno in _OUTSIDE:
        _discard_output()  # perhaps the output itself cannot be written: Python must not try again at exit
        about = f"{error.filename}: " if error.filename else ""
        _tell(f"{about}{error.strerror}", None, "free some space" if error.errno == errno.ENOSPC else None)
        return FAILED
    if isinstance(error, MemoryError):
        # What would put it into other forms may need memory that there is not.
        print("error: there is no memory left for this command", file=sys.stderr)
        return FAILED
    if isinstance(error, RuntimeError):
        from engine.scarcity import is_scarcity

        if is_scarcity(error):
            print("error: there is no memory left for this command, or it may start no more threads", file=sys.stderr)
            return FAILED
    if isinstance(error, ImportError | SystemError) and any(words in str(error) for words in _SCARCE):
        print(f"error: a part of this command could not be loaded: {_redacted(str(error))}", file=sys.stderr)
        return FAILED
    return _show_bug(error)


def _without_directory(error: FileNotFoundError) -> BaseException:
    """What to say instead where this process is in a directory that is gone: every relative path fails there."""
    from engine.errors import EngineError
    from engine.files import here

    try:
        here()
    except EngineError as nowhere:
        return nowhere
    return error


def _tell(brief: str, details: object, hint: str | None) -> None:
    try:
        from engine.cli.showing.emphasis import emphasize
        from engine.report.text import clean_line
    except (OSError, ImportError, MemoryError):  # what there is too little of may be descriptors
        print(f"error: {ascii(_redacted(brief))[1:-1]}", file=sys.stderr)
        return
    if json_errors := _wanted_json():
        _print_document(json_errors.of_error(brief, details, hint))
    # Details are often the last words of a guest, which must not steer this terminal.
    print(f"{emphasize('error:', 'red', sys.stderr)} {clean_line(_redacted(brief))}", file=sys.stderr)
    for line in _redacted(str(details or "")).splitlines():
        print(f"  {clean_line(line)}".rstrip(), file=sys.stderr)
    if hint:
        print(f"{emphasize('hint:', 'cyan', sys.stderr)} {clean_line(_redacted(hint))}", file=sys.stderr)


def _print_document(text: str) -> None:
    """Print to standard output, if that can be written. Raises BrokenPipeError."""
    try:
        print(_redacted(text), flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        _discard_output()


def _within_terminal(error: Any) -> str:
    """The problems of a bad file, so that no line of it wraps where somebody reads it."""
    from engine.cli.showing.emphasis import columns_of

    return str(error.within(columns_of(sys.stderr)))


def _wanted_json() -> Any:
    """The module engine.cli.json_errors if whoever called the command reads JSON: the option itself has imported it."""
    module = sys.modules.get("engine.cli.json_errors")
    return module if module and module.is_json_wanted() else None


def _show_bug(error: BaseException) -> int:
    import traceback

    print(_redacted("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    print("\nerror: this is a bug in sandbox; please report it with the lines above", file=sys.stderr)
    return OUR_BUG


def _redacted(text: str) -> str:
    """Without the values of secrets that this process has read; if nothing has imported that module, it has none."""
    secrets = sys.modules.get("engine.secrets.redaction")
    return str(secrets.redact_held(text)) if secrets else text


def _first(error: BaseException) -> BaseException:
    """The error itself, or the most telling one of a group: an error for people comes before any other."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    inner = [_first(each) for each in error.exceptions]
    return next((each for each in inner if hasattr(each, "brief") or hasattr(each, "diagnostics")), inner[0])


def _discard_output() -> None:
    """Throw away what is left in the buffers of stdout and stderr, so that Python's flush at exit cannot fail again."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
            continue
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
