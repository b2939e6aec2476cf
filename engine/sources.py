"""Which directories of the host a file's mounts are, and which files in them the guest must not change."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from sandboxfile import Loaded
from sandboxfile.load import LOCAL
from sandboxfile.variables import FILE_NAME as ENV_FILE


@functools.cache
def real_source(project: Path, source: str) -> Path:
    """The directory that a mount's `source` means, links followed.

    Looked up once in the life of a process: what the user was shown is what is mounted, whoever retargets a link in the
    project meanwhile. Raises OSError or RuntimeError where no path comes of it (`~nobody`, a loop of links).
    """
    return (project / Path(source).expanduser()).resolve()


def protected_in(loaded: Loaded, source: Path) -> tuple[str, ...]:
    """What decides about the sandbox and lies in the real directory `source`: paths relative to it, sorted.

    The local layer is among them before there is one. Of a link it is both the link and the file.
    """
    files = (*deciding_files(loaded), local_layer(loaded))
    found = (real for file in files for real in (file.parent.resolve() / file.name, file.resolve()))
    return tuple(sorted({str(path.relative_to(source)) for path in found if path.is_relative_to(source)}))


def deciding_files(loaded: Loaded) -> Iterator[Path]:
    """The files whose text is the sandbox: all layers, and `.env` where variables are read from it.

    What `services: {include: ...}` names is not among them: it says what runs in the guest, whose work it may be.
    """
    yield from loaded.layers
    if ENV_FILE in loaded.variables.values():
        yield loaded.project / ENV_FILE


def local_layer(loaded: Loaded) -> Path:
    """Where the layer is, or would be, that counts without being named."""
    return loaded.path.with_suffix(f"{LOCAL}{loaded.path.suffix}")
