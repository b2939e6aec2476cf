"""What the guest knows of its mount, as bytes: another server of the same directory goes on with it.

QEMU stores these bytes with the state of the device, and gives them back. A guest that has taken QEMU over may give us
others, so what is loaded is looked up anew by the road of any request: a name that is hidden, protected or another
file by now is not there. What is gone while nobody served it is gone for the guest: a file that was open without a
name, and locks that the host has taken meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Mapping
from typing import Any

from vmm.fileserver.birth import born
from vmm.fileserver.files import OPEN_FLAGS, Files
from vmm.fileserver.filesystem import read_name
from vmm.fileserver.nodes import ROOT, FileNode

FORMAT = 1


def save(files: Files) -> bytes:
    """All that the guest knows by number."""
    nodes = [
        [node.number, node.parent.number, node.name, *node.identity, node.is_directory, node.lookups]
        for node in files.nodes.each()
        if node.parent is not None and (node.gone is None or node.is_mount_point)
    ]
    handles = [
        [number, handle.node.number, fcntl.fcntl(handle.descriptor, fcntl.F_GETFL) & OPEN_FLAGS, handle.writable,
         handle.flock, sorted(handle.owners), born(handle.descriptor)]
        for number, handle in files.handles.items()
    ]  # fmt: skip
    state = {
        "format": FORMAT,
        "device": files.nodes.device,
        "next": [files.nodes.next_number, files.next_handle],
        "nodes": nodes,
        "handles": handles,
        "used": files.quota.used,
        "kept": files.quota.kept,
        "locks": [[number, *owner, ranges] for (number, owner), ranges in files.locks.ranges.items()],
    }
    return json.dumps(state).encode()


def load(files: Files, data: bytes) -> None:
    """Go on with what `save` gave. Raises ValueError for what it cannot have given."""
    try:
        state = json.loads(data)
        if state["format"] != FORMAT:
            raise ValueError(f"format {state['format']}")
        files.reset()
        files.nodes.next_number, files.next_handle = max(int(state["next"][0]), ROOT + 1), max(int(state["next"][1]), 1)
        files.quota.used = max(int(state.get("used", 0)), 0)
        size, inodes = state.get("kept", (0, -1))
        files.quota.keep(files.nodes.device, int(size), int(inodes))
        others = _load_nodes(files, state)
        for handle in state["handles"]:
            with contextlib.suppress(OSError):  # it is another file now, or none
                if handle[1] not in others:
                    _load_handle(files, *handle)
        for number, owner, is_flock, ranges in state["locks"]:
            with contextlib.suppress(OSError):  # the host has it now
                _load_locks(files, number, (int(owner), bool(is_flock)), ranges)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"this is no state of a file server: {error}") from error


def _load_nodes(files: Files, state: Mapping[str, Any]) -> set[int]:
    """Returns the nodes that are other files now, of which the guest knows nothing but the name."""
    others = set[int]()
    left = {int(row[0]): row for row in state["nodes"]}
    for number in list(left):
        way: list[Any] = []  # those that lead there come first
        while number in left:
            row = left.pop(number)
            way.append(row)
            number = int(row[1])
        for row in reversed(way):
            with contextlib.suppress(OSError):  # gone, hidden, or another file
                if not _load_node(files, state["device"], *row):
                    others.add(int(row[0]))
    return others


def _load_node(
    files: Files, root: int, number: int, above: int, name: str, device: int, inode: int, directory: bool, lookups: int
) -> bool:
    """Whether it is the same file still. The one file of a share is followed, whichever file that is now."""
    parent = files.nodes.get(above, to_let_go=True)
    read_name(os.fsencode(name))
    files.nodes.check_room()
    if (st := files.mount_points.status(parent.number, files.nodes.path(parent), name)) is None:
        st = files.seen(parent, files.nodes.directory(parent), name)
    # A host that was started anew may count its devices otherwise.
    same = (st.st_dev, st.st_ino) == (files.nodes.device if device == root else device, inode)
    followed = parent.number == ROOT and name == files.share.file and stat.S_ISREG(st.st_mode)
    if not (same or followed):
        return False
    node = FileNode(int(number), st, parent, name)
    if node.is_directory == directory:
        node.lookups = max(int(lookups), 1)
        files.nodes.add(node)
        if followed:
            files.nodes.follow(node)
    else:
        parent.children -= 1
    return same


def _load_handle(
    files: Files,
    number: int,
    of: int,
    flags: int,
    writable: bool,
    flock: int,
    owners: list[tuple[int, bool]],
    birth: int | None = None,
) -> None:
    """Raises OSError where it is another file now, one that has got the number of the removed one, too."""
    node = files.nodes.get(of)
    flags = int(flags) & OPEN_FLAGS & ~os.O_TRUNC
    handle = files.open_again(int(number), node, flags, writable=bool(writable), birth=birth)
    handle.owners = {(int(owner), bool(is_flock)) for owner, is_flock in owners}
    if flock in (fcntl.F_RDLCK, fcntl.F_WRLCK):
        files.locks.take(node, handle.descriptor, (0, True), (flock, 0, 0))
        handle.flock = flock


def _load_locks(files: Files, number: int, owner: tuple[int, bool], ranges: list[tuple[int, int, int]]) -> None:
    node = files.nodes.get(int(number))
    if node.handles:
        for kind, start, end in ranges:
            files.locks.take(node, node.handles[-1], owner, (int(kind), int(start), int(end)))
