"""Errors as text and exit codes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from engine.cli.boundary import guarded
from engine.errors import EngineError
from engine.secrets.redaction import hold
from sandboxfile import Diagnostic, SandboxfileError, parse
from vmm.errors import VmmError


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


BAD_FILE = SandboxfileError([Diagnostic(None, (), "this is wrong")])


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (EngineError("broken", "one\ntwo", "mend it"), 1, "error: broken\n  one\n  two\nhint: mend it\n"),
        (EngineError("misused", exit_code=2), 2, "error: misused\n"),
        (VmmError("no machine"), 1, "error: no machine\n"),
        (EngineError("a", "\x1b[31mred\x1b[0m\x07"), 1, "error: a\n  red\n"),
        (BAD_FILE, 2, "Sandboxfile.yaml: this is wrong\n"),
        (click.UsageError("not so"), 2, "error: not so\n"),
        (click.BadParameter("odd", param_hint="-x"), 2, "error: Invalid value for -x: odd\n"),
        (click.Abort(), 130, "interrupted\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (SystemExit(7), 7, ""),
        (click.exceptions.Exit(4), 4, ""),
        (OSError(errno.EROFS, "Read-only file system", "/x"), 1, "error: /x: Read-only file system\n"),
        (BaseExceptionGroup("", [ValueError(), ExceptionGroup("", [EngineError("inner")])]), 1, "error: inner\n"),
        (MemoryError(), 1, "error: there is no memory left for this command\n"),
        (
            RuntimeError("can't start new thread"),
            1,
            "error: there is no memory left for this command, or it may start no more threads\n",
        ),
        (
            ImportError("_ctypes.so: failed to map segment from shared object"),
            1,
            "error: a part of this command could not be loaded: _ctypes.so: failed to map segment from shared object\n",
        ),
        (
            SystemError("error return without exception set"),
            1,
            "error: a part of this command could not be loaded: error return without exception set\n",
        ),
        (
            SystemError("<function _find_and_load at 0x7f> returned NULL without setting an exception"),
            1,
            "error: a part of this command could not be loaded:"
            " <function _find_and_load at 0x7f> returned NULL without setting an exception\n",
        ),
        (BaseExceptionGroup("", [KeyboardInterrupt()]), 130, "interrupted\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_is_said(error: BaseException, code: int, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert guarded(raising(error)) == code
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", said)


def test_our_bug(capfd: pytest.CaptureFixture[str]) -> None:
    assert guarded(raising(ValueError("oops"))) == 3
    assert "Traceback" in (err := capfd.readouterr().err) and "this is a bug in sandbox" in err
    assert guarded(raising(OSError(errno.ENOENT, "No such file or directory", "/x"))) == 3
    assert guarded(raising(RuntimeError("no running event loop"))) == 3
    assert guarded(raising(ImportError("cannot import name 'x' from 'y'"))) == 3


def test_codes_that_are_no_errors() -> None:
    assert guarded(lambda: None) == 0
    assert guarded(lambda: 9) == 9


VALUE = "a-value-that-this-process-read"


@pytest.mark.parametrize(
    "error",
    [
        EngineError(f"broken {VALUE}", f"one\n{VALUE!r}", f"try {VALUE}"),
        VmmError(f"no machine for {VALUE}"),
        SandboxfileError([Diagnostic(None, (), f"{VALUE} is wrong")]),
        OSError(errno.EROFS, "Read-only file system", f"/{VALUE}"),
        RuntimeError(f"a bug about {VALUE}"),
    ],
)
def test_no_error_shows_a_value_that_was_read(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    hold(VALUE)
    assert guarded(raising(error)) in (1, 2, 3)
    shown = capsys.readouterr().err
    assert VALUE not in shown and "•••" in shown


def test_what_is_missing_for_a_message_may_be_descriptors(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "engine.report.text", None)  # cannot be imported
    assert guarded(raising(OSError(errno.EMFILE, "Too many open files", "/x"))) == 1
    assert capfd.readouterr().err == "error: /x: Too many open files\n"


def test_what_shows_errors_cannot_be_loaded_itself() -> None:
    """A line all the same: no part of the way there may need a file before that is said."""
    script = (
        "import resource, sys; from engine.cli import main; import engine.cli.door;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)); main.main(['ls'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: this command could not be loaded: "), done.stderr
    assert "Too many open files" in done.stderr and "Traceback" not in done.stderr


def test_a_line_of_a_bad_file_fits_into_the_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def check() -> None:
        text = 'version: "1"\nmachine: {memory: 4GiB, cpus: 2, disk: 40GiB, wrong: "a long value of it"}\n'
        parse(text, Path("Sandboxfile.yaml"))

    assert guarded(check) == 2
    assert '"a long value of it"' in (whole := capfd.readouterr().err)
    monkeypatch.setattr(os, "get_terminal_size", lambda stream: os.terminal_size((40, 24)))
    assert guarded(check) == 2
    place, line, caret, *_ = capfd.readouterr().err.splitlines()
    assert whole.startswith(place) and len(line) <= 40 and line[caret.index("^") :].startswith("wrong")
