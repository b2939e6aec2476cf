"""Which directories of the host a file's mounts are, and which files in them the guest must not change."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from sandboxfile import Loaded
from sandboxfile.load import LOCAL
from sandboxfile.reading.variables import FILE_NAME as ENV_FILE

MAX_LINKS = 40  # the kernel's own limit (path_resolution(7))


@functools.cache
def real_source(project: Path, source: str) -> Path:
    """The directory that a mount's `source` means, links followed.

    Looked up once in the life of a process: what the user was shown is what is mounted, whoever retargets a link in the
    project meanwhile. Raises OSError or RuntimeError where no path comes of it (`~nobody`, a loop of links).
    """
    return (project / Path(source).expanduser()).resolve()


def protected_in(loaded: Loaded, source: Path) -> tuple[str, ...]:
    """What decides about the sandbox and lies in the real directory `source`: paths relative to it, sorted.

    The local layer is among them before there is one: otherwise the guest could make it. Where links lead to a file,
    every link on the way is among them, links to directories too, and the file itself.
    """
    files = (*deciding_files(loaded), local_layer(loaded))
    found = {place for file in files for place in places_on_the_way(file)}
    return tuple(
        sorted(str(path.relative_to(source)) for path in found if path.is_relative_to(source) and path != source)
    )


def places_on_the_way(path: Path) -> Iterator[Path]:
    """Where somebody could put something else, so that `path` means another file: each link on its way, and its end.

    All are real paths up to their last component. A loop of links ends after MAX_LINKS.
    """
    rest, at, links = list(path.absolute().parts[1:]), Path("/"), 0
    while rest:
        name = rest.pop(0)
        if name in ("..", "."):
            at = at.parent if name == ".." else at
            continue
        at /= name
        if links < MAX_LINKS and at.is_symlink():
            links += 1
            yield at
            target = at.readlink()
            rest = [*target.parts, *rest] if not target.is_absolute() else [*target.parts[1:], *rest]
            at = Path("/") if target.is_absolute() else at.parent
    yield at


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
