"""The files that are read although nobody names them, and whether a guest of the project can have written them.

Sandboxfile.local.yaml and `.env` take effect as soon as they exist. A sandbox that can write in their directory could
make them for the next `up`. So each start notes their content, and the directories that the guest can write from then
on.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.files import directories_in, read_json, write_json
from engine.resolve.paths import real_source
from engine.state.instances import load_instance
from engine.state.layout import Layout
from sandboxfile import Loaded
from sandboxfile.load import local_layers
from sandboxfile.reading.regular_file import read_within, steps_to
from sandboxfile.reading.source import MAX_BYTES
from sandboxfile.reading.variables import FILE_NAME as ENV_FILE

VERSION = 1


@dataclass(frozen=True)
class Past:
    """What earlier sandboxes of a project may have done to its files.

    `files` maps real paths to the digest of the content at the last start, None for a file that did not exist. `lent`
    are the directories that one of the sandboxes can write, or could. `ran` is False when the project had no sandbox
    yet.
    """

    ran: bool = False
    files: Mapping[str, str | None] = field(default_factory=dict)
    lent: tuple[Path, ...] = ()

    def change(self, path: str, digest: str) -> str:
        """What a guest may have done to the file since the last start: "has changed", "is new", or "" for nothing."""
        if not self.ran or self.files.get(path) == digest:
            return ""
        return "has changed" if self.files.get(path) is not None else "is new"


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def known_as(path: Path) -> str:
    """The path under which an unnamed file is remembered: its own name in its real directory."""
    return str(path.parent.resolve() / path.name)


def look_back(layout: Layout, project: Path) -> Past:
    """What the records say about the sandboxes that ran, or run, in the directory `project`."""
    lent, ran = [], False
    for name in directories_in(layout.instances):
        with contextlib.suppress(EngineError):
            instance = load_instance(layout, name)
            if instance is not None and Path(instance.project) == project:
                ran = True
                lent += [Path(str(mount.get("source"))) for mount in instance.mounts if not mount.get("read_only")]
    notes = layout.project_seen(project)
    try:
        past = _parse(read_json(notes))
    except FileNotFoundError:
        # A plan without these notes is from an older version, which started sandboxes and took no notes.
        past = Past(ran or any(notes.parent.glob("plan*.json")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        past = Past(True, {}, (project.resolve(),))  # the notes are damaged: a guest may have written every file
    return Past(past.ran or ran, past.files, tuple(dict.fromkeys([*past.lent, *lent])))


def note_start(layout: Layout, loaded: Loaded) -> None:
    """Note the content of the unnamed files, right before a sandbox is started or changed. Raises EngineError."""
    past = look_back(layout, loaded.project)
    files = dict(past.files)
    for path in (*local_layers(loaded.path), loaded.project / ENV_FILE):
        name = known_as(path)
        if (content := loaded.unnamed.get(path)) is not None:
            files[name] = digest_of(content)
        elif not past.ran:
            files[name] = _digest_now(loaded.project, path)
    lent = dict.fromkeys([*past.lent, *lent_by(loaded)])
    path = layout.project_seen(loaded.project)
    try:
        write_json(path, {"version": VERSION, "files": files, "lent": sorted(map(str, lent))})
    except OSError as error:
        raise EngineError(f"cannot write {path}: {error.strerror}") from error


def lent_by(loaded: Loaded) -> Iterator[Path]:
    """The real directories that the sandboxes of the file can write."""
    for one in loaded.each():
        for mount in one.sandbox.mounts:
            if mount.mode == "rw":
                with contextlib.suppress(OSError, RuntimeError):  # `up` refuses a source that cannot be mounted
                    yield real_source(one.project, mount.source)


def can_be_written(path: Path, directories: Iterable[Path]) -> bool:
    """Whether someone who can write these directories decides what is read at `path`, as through a link on the way."""
    directories = tuple(directories)
    return any(step.is_relative_to(directory) for step in steps_to(path) for directory in directories)


def _digest_now(project: Path, path: Path) -> str | None:
    try:
        return digest_of(read_within(project, path, MAX_BYTES))
    except (OSError, ValueError):
        return None


def _parse(value: Any) -> Past:
    """Raises KeyError, TypeError or ValueError for everything that `note_start` could not have written."""
    if value["version"] != VERSION:
        raise ValueError
    files = {str(path): None if digest is None else str(digest) for path, digest in value["files"].items()}
    return Past(True, files, tuple(Path(str(path)) for path in value["lent"]))
