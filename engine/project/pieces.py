"""The parts of a project that are copied into a guest, as plain values: the supervisor knows no Sandboxfiles."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hidden:
    """What one mount hides of the project.

    `place` names it in the Sandboxfile (`mounts[0].hide`). The patterns are relative to the mount's source: `project`
    is the project's path below that, or `source` is its path below the project. Both are empty where they are the same.
    """

    place: str
    patterns: tuple[str, ...]
    project: str = ""
    source: str = ""


@dataclass(frozen=True)
class Piece:
    """A file or directory of the project and its place in the guest.

    `path` is relative to the project ("." is all of it); `target` is an absolute path in the guest. `key` is the key of
    the content that `up` saw; the content that is copied must have the same key.

    Parts of a directory can be left out. `ignores` are paths of ignore files in the project: the first one that exists
    counts, and the lines in `leave_out` count where none exists. Names in `keep` are never left out. With a `pattern`,
    only what matches it is copied. What `hidden` says is left out in any case.
    """

    path: str
    target: str
    key: str = ""
    ignores: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    pattern: str = ""
    hidden: tuple[Hidden, ...] = ()
