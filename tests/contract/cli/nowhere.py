"""The command line in a directory that somebody else removes while it starts."""

from __future__ import annotations

from pathlib import Path

from engine.cli.main import main


def run() -> None:
    Path.cwd().rmdir()
    main()
