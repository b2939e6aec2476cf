"""What is told of a supervisor that ended without a word to `up`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.lifecycle.supervisor_process import ended_early

TRACE = 'Traceback (most recent call last):\n  File "<frozen runpy>", line 198, in _run_module_as_main\n'
NOT_BEGUN = (
    "Exception ignored error evaluating path:\nTraceback (most recent call last):\n"
    "  SystemError: readlines returned NULL\n"
    "Fatal Python error: error evaluating path\nPython runtime state: core initialized\n\n"
    "Current thread 0x00007f72811bcb80 (most recent call first):\n  <no Python frame>\n"
)
NO_LIBRARY = (
    "Fatal Python error: init_fs_encoding: no codec\nPython runtime state: core initialized\n"
    "ModuleNotFoundError: no encodings\n"
)
BEGUN = "Fatal Python error: Segmentation fault\nPython runtime state: initialized\n"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", None),
        ("one\ntwo\n", "one\ntwo"),
        (f"{TRACE}MemoryError\n", "MemoryError"),
        (f"{TRACE}OSError: [Errno 24] Too many open files: 'x'\n", "OSError: [Errno 24] Too many open files: 'x'"),
        (
            f"{TRACE}SystemError: <f> returned NULL without setting an exception\n",
            "SystemError: <f> returned NULL without setting an exception",
        ),
        (NOT_BEGUN, "Python could not begin: error evaluating path; SystemError: readlines returned NULL"),
        (
            NO_LIBRARY,
            "Python could not begin: init_fs_encoding: no codec; ModuleNotFoundError: no encodings",
        ),
        (BEGUN, BEGUN.rstrip()),
        (f"{TRACE}KeyError: 'x'\n", f"{TRACE}KeyError: 'x'"),
        ("OSError: seen\nOSError: heard\n", "OSError: seen\nOSError: heard"),
    ],
)
def test_of_what_was_scarce_one_line_is_told(said: str, told: str | None, tmp_path: Path) -> None:
    words = os.memfd_create("words")
    os.write(words, said.encode())
    assert ended_early(tmp_path / "no.log", words).details == told
    (tmp_path / "log").write_text(said)
    os.ftruncate(words, 0)
    assert ended_early(tmp_path / "log", words).details == told
    os.close(words)
