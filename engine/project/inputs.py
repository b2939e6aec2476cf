"""The `inputs` of a set-up step as pieces of the project."""

from __future__ import annotations

import posixpath

from engine.project.patterns import is_pattern, split_pattern
from engine.project.pieces import Hidden, Piece
from engine.project.tree import ProjectTree


def input_piece(tree: ProjectTree, name: str, directory: str, hidden: tuple[Hidden, ...] = ()) -> Piece:
    """The piece of the project that one entry of `inputs` names, with its place in the guest; it has no key yet.
    What is `hidden` is left out of it.

    Its path below the project is also its path below `directory` of the guest, so two steps that name the same
    directory put it in the same place. The name of an existing file is no pattern, whatever characters it has. Raises
    PathError for a name that leads through a link.
    """
    if is_pattern(name) and not tree.exists(name):
        above, pattern = split_pattern(name)
        return Piece(above, posixpath.normpath(posixpath.join(directory, above)), pattern=pattern, hidden=hidden)
    return Piece(name, posixpath.normpath(posixpath.join(directory, name)), hidden=hidden)
