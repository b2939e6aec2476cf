"""What a failed start leaves for the user to look at: record, console, journal and log. Only the last few are kept."""

from __future__ import annotations

import contextlib
from pathlib import Path

from engine.errors import EngineError
from engine.files import make_private
from engine.state.instance_paths import InstancePaths
from engine.state.instances import read_record
from engine.state.layout import Layout
from engine.state.trees import remove_tree

MOST = 5  # failed starts that are kept
LIMIT = 16 * 1024 * 1024  # bytes of one file; of a longer file only the end is kept


def keep_evidence(layout: Layout, name: str) -> Path | None:
    """Move the record and the logs out of the sandbox's directory. Raises OSError.

    Returns the directory that they are in now, None where there were none. Replaces those of an earlier failed start.
    """
    paths, kept = layout.instance(name), layout.failed(name)
    files = [path for path in _files(paths) if path.is_file() and path.stat().st_size]
    if not files:
        return None
    remove_tree(kept.directory)
    make_private(kept.directory)
    for path in files:
        _shorten(path)
        path.replace(kept.directory / path.name)
    by_age = sorted(layout.all_failed.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for old in by_age[MOST:]:
        remove_tree(old)
    return kept.directory


def find_evidence(layout: Layout, name: str | None, directory: Path) -> tuple[str, InstancePaths] | None:
    """The name and files of the last failed start: of the sandbox `name`, or of the project around `directory`."""
    starts = []
    for path in layout.all_failed.glob("*") if name is None else [layout.failed(name).directory]:
        with contextlib.suppress(EngineError, OSError):
            paths = layout.failed(path.name)
            record = read_record(paths.record, path.name)
            if path.is_dir() and (name is not None or (record and directory.is_relative_to(record.project))):
                starts.append((path.stat().st_mtime_ns, path.name, paths))
    if not starts:
        return None
    _, newest, paths = max(starts, key=lambda row: row[:2])
    return newest, paths


def _files(paths: InstancePaths) -> list[Path]:
    journals = sorted(paths.directory.glob(f"{paths.journal.name}*"))
    return [paths.record, paths.supervisor_log, paths.console_log, paths.old_console_log, *journals]


def _shorten(path: Path) -> None:
    if (size := path.stat().st_size) <= LIMIT:
        return
    with path.open("rb+") as file:
        file.seek(size - LIMIT)
        end = file.read()
        file.seek(0)
        file.write(end)
        file.truncate()
