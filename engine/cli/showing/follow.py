"""Printing a file that grows."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import click

POLL_S = 0.2


def print_file(path: Path, render: Callable[[str], str | None], *, follow: bool = False) -> None:
    """Print each line of `path` as `render` returns it; a line for which it returns None is left out.

    With `follow`, wait for more lines until ^C or until the file is gone. When the file is replaced, go on with the new
    one.
    """
    while True:
        try:
            file = path.open(errors="replace", newline="\n")
        except FileNotFoundError:
            return
        with file:
            _print_lines(file, path, render, follow)
        if not follow:
            return


def _print_lines(file: TextIO, path: Path, render: Callable[[str], str | None], follow: bool) -> None:
    part = ""
    while True:
        growing = follow and _is_still(file, path)  # before the reading: what comes between the two must not be missed
        while text := file.readline():
            part += text
            if part.endswith("\n"):  # a line without its end is still being written
                _print(render(part[:-1]))
                part = ""
        if not growing:
            if part:
                _print(render(part))
            return
        sys.stdout.flush()
        time.sleep(POLL_S)


def _print(text: str | None) -> None:
    if text is not None:
        click.echo(text)


def _is_still(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
