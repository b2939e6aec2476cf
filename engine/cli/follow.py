"""Printing a file that grows."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

POLL_S = 0.2


def print_file(path: Path, *, follow: bool, render: Callable[[str], str] = lambda line: line) -> None:
    """Print the lines of `path` through `render`; with `follow` until ^C or until the file is removed."""
    try:
        file = path.open(errors="replace")
    except FileNotFoundError:
        return
    with file:
        while True:
            while line := file.readline():
                click.echo(render(line.rstrip("\n")))
            if not follow or not path.exists():
                return
            sys.stdout.flush()
            time.sleep(POLL_S)
