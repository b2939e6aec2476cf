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
    """Print each line of `path` through `render`, which may leave one out with None.

    With `follow` until ^C or until the file is gone for good; one that is replaced is read on.
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
        while text := file.readline():
            part += text
            if part.endswith("\n"):  # else its writer is in the middle of it
                _print(render(part[:-1]))
                part = ""
        if not follow or not _is_still(file, path):
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
