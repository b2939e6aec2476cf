"""The `inputs` of a set-up step as pieces of the project."""

from __future__ import annotations

import posixpath

from engine.project.patterns import is_pattern, split_pattern
from engine.project.pieces import Piece
from engine.project.tree import ProjectTree


def input_piece(tree: ProjectTree, name: str, directory: str) -> Piece:
    """What one entry of `inputs` stands for, as a place below `directory` of the guest; it has no key yet.

    The same path below the project and below `directory`, so that a directory given twice lands where it is. A name
    that exists means itself, whatever characters it has. Raises PathError for one that leads through a link.
    """
    if is_pattern(name) and not tree.exists(name):
        above, pattern = split_pattern(name)
        return Piece(above, posixpath.normpath(posixpath.join(directory, above)), pattern=pattern)
    return Piece(name, posixpath.normpath(posixpath.join(directory, name)))
