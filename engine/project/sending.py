"""Copying pieces of the project into a guest, and checking during the copy that the content has the expected key."""

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
    """Copy the piece to its place, over what is there. The directory around that place must exist.

    Raises ContentChanged when the bytes that were sent do not have the piece's key: the guest then has another content,
    and its state must be thrown away. Raises also what `ProjectTree.entries` raises, and GuestError.
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
