"""What running sandboxes were at some moment, as files: who needs them, and their end.

A fork belongs to the command that makes it while that runs. After that only its disk is of use, for as long as the disk
of a sandbox that began there lies above it. Nothing but the disks themselves says so, and so nothing can be wrong about
it, whoever is killed when.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from engine.files import make_private
from engine.scarcity import is_scarcity, raise_if_scarce
from engine.state.instance_paths import ForkPaths
from engine.state.layout import Layout
from engine.state.locks import is_locked, locked
from engine.state.trees import remove_tree

LAYERS_MOST = 64  # disks below a disk


@contextlib.contextmanager
def new_fork(layout: Layout) -> Iterator[ForkPaths]:
    """A directory for a fork. After the block nothing of it is left but a disk that is needed. Raises OSError."""
    sweep_forks(layout)  # what others have left, who were killed
    with forks_locked(layout):
        new = layout.fork(secrets.token_hex(8))
        make_private(new.directory)
        descriptor = os.open(new.held, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield new
    finally:
        os.close(descriptor)
        sweep_forks(layout)


def sweep_forks(layout: Layout) -> None:
    """Remove of all forks what nobody needs. What cannot be removed stays; the next one tries again."""
    with contextlib.suppress(OSError):
        if not any(layout.forks.iterdir()):
            layout.forks.rmdir()
            return
        with forks_locked(layout):
            forks = [ForkPaths(directory) for directory in layout.forks.iterdir()]
            # First who holds one, once, and then the disks: who lets go has made the disk that needs the fork.
            held = [fork for fork in forks if is_locked(fork.held)]
            needed = {name for disk in disks(layout) for name in _forks_below(layout, disk)}
            for fork in held:
                needed |= set(_forks_below(layout, fork.disk))
            for fork in forks:
                if fork not in held:
                    _shrink(fork, whole=fork.directory.name not in needed)
            with contextlib.suppress(OSError):  # it is not empty
                layout.forks.rmdir()


def _shrink(fork: ForkPaths, *, whole: bool) -> None:
    if whole:
        remove_tree(fork.directory)
        return
    for path in fork.directory.iterdir():
        if path.is_dir():
            remove_tree(path)
        elif path.suffix != fork.disk.suffix and path != fork.about:  # a clone that was stopped boots with its drives
            path.unlink()


def disks(layout: Layout) -> Iterator[Path]:
    """Every disk that is not one of a fork. Raises OSError where there is too little of something to look."""
    for parent, names, files in os.walk(layout.state, onerror=raise_if_scarce):
        if Path(parent) == layout.state and layout.forks.name in names:
            names.remove(layout.forks.name)
        yield from (Path(parent, name) for name in files if name.endswith(".qcow2"))


def _forks_below(layout: Layout, disk: Path) -> Iterator[str]:
    """The names of the forks that a disk lies above."""
    forks = layout.forks.resolve()
    return (each.relative_to(forks).parts[0] for each in below(disk) if each.is_relative_to(forks))


def below(disk: Path) -> Iterator[Path]:
    """The disks that a disk lies above. Raises FileNotFoundError where it has just got another name, and
    OSError where there is too little of something to look."""
    from vmm.errors import VmmError
    from vmm.qcow2 import read_backing

    for layer in range(LAYERS_MOST):
        try:
            backing = read_backing(disk)
        except FileNotFoundError:
            if layer == 0:  # whoever looks now sees too little
                raise
            return
        except (OSError, VmmError) as error:
            if is_scarcity(error):
                raise  # whoever looks now would take what is needed for what is not
            return
        if backing is None:
            return
        disk = Path(os.path.normpath(disk.parent.resolve() / backing.name))
        yield disk
        if disk.suffix != ".qcow2":
            return


def forks_locked(layout: Layout) -> AbstractContextManager[None]:
    """Within the block nobody makes, names or removes a fork. Waits for those who do."""
    return locked(layout.forks_lock)
