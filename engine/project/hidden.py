"""What mounts hide of a project is not copied into the guest either.

Names are judged as the file server judges them (vmm/fileserver/hiding.py), in all their spellings.
"""

from __future__ import annotations

import functools
import posixpath

from engine.project.pieces import Hidden, Piece
from engine.workspaces.hiding import hidden_rules
from vmm.fileserver.hiding import Hiding
from vmm.walk import LeaveOut


def hidden_by(piece: Piece, *, directory: bool) -> str | None:
    """The place in the Sandboxfile of what hides the piece as a whole; None where nothing does."""
    for one in piece.hidden:
        if (path := _in_source(one, piece.path)) and _judge(one.patterns).hides(path, directory=directory):
            return one.place
    return None


def leave_out_hidden(piece: Piece, leave_out: LeaveOut) -> LeaveOut:
    """`leave_out`, and what is hidden in the piece.

    A rule does not know whether a name is a directory's. So a file is left out, too, if as a directory it would be
    hidden (`build/`), and a directory that would be as a file is copied only with something in it.
    """

    def with_hidden(name: str, with_all_below: bool) -> bool:
        if leave_out(name, with_all_below):
            return True
        path = posixpath.join(piece.path, name)
        judged = all if with_all_below else any
        return any(
            (below := _in_source(one, path)) != ""
            and judged(_judge(one.patterns).hides(below, directory=directory) for directory in (False, True))
            for one in piece.hidden
        )

    return with_hidden if piece.hidden else leave_out


def _in_source(one: Hidden, path: str) -> str:
    """The path of the project's `path` below the mount's source; "" for what is not below it."""
    path = posixpath.normpath(path)
    if one.project:
        return posixpath.normpath(posixpath.join(one.project, path))
    if not one.source:
        return path if path != "." else ""
    above = f"{one.source}/"
    return path[len(above) :] if path.startswith(above) else ""


@functools.lru_cache(64)
def _judge(patterns: tuple[str, ...]) -> Hiding:
    return Hiding(hidden_rules(patterns), -1, -1)  # no descriptors: it judges names alone
