"""Pieces of the project on their way into a guest, compared on the way with what their keys promise."""

from __future__ import annotations

import contextlib
import posixpath

from engine.project.digest import TreeDigest
from engine.project.pieces import Piece
from engine.project.tree import ContentChanged, MissingError, ProjectTree
from vmm.channel.copy import send_tree
from vmm.channel.guest import GuestChannel
from vmm.walk import TreeChanged


async def put_piece(channel: GuestChannel, tree: ProjectTree, piece: Piece) -> None:
    """Copy the piece to its place, over what is there; the directory around it must exist.

    Raises ContentChanged when what was sent is not what the piece's key stands for: the guest then has something else,
    and nothing may be kept of it. Raises as `ProjectTree.entries`, and GuestError.
    """
    digest = TreeDigest(piece.path)
    parent, name = posixpath.split(piece.target)
    try:
        with contextlib.closing(tree.entries(piece, digest)) as entries:
            await send_tree(channel, entries, parent, name)
    except (TreeChanged, MissingError):
        raise ContentChanged(piece.path) from None
    if digest.key() != piece.key:
        raise ContentChanged(piece.path)
