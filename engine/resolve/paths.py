"""The directories of the host that a file mounts, and the files in them that the guest must not change."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from engine.errors import EngineError
from engine.project.pieces import Hidden
from engine.workspaces.run_later import run_later
from sandboxfile import Loaded
from sandboxfile.load import local_layers
from sandboxfile.reading.variables import FILE_NAME as ENV_FILE

MAX_LINKS = 40  # the kernel's own limit (path_resolution(7))


@functools.cache
def real_source(project: Path, source: str) -> Path:
    """The real directory that the `source` of a mount means, after all links.

    It is looked up once in the life of a process. So the directory that the user was shown is the one that is mounted,
    even if a link in the project is changed in the meantime. Raises OSError or RuntimeError where there is no such path
    (`~nobody`, a loop of links).
    """
    return (project / Path(source).expanduser()).resolve()


def protected_in(loaded: Loaded, source: Path) -> tuple[str, ...]:
    """The paths in the real directory `source` that decide what the sandbox is: relative to `source`, sorted.

    The local layer is one of them even if it does not exist: otherwise the guest could make it. Where a file is reached
    through links, all links on the way are among them, including links to directories, and the file itself.
    """
    files = (*deciding_files(loaded), *local_layers(loaded.path))
    places = {place for file in files for place in places_on_the_way(file)}
    return tuple(
        sorted(str(path.relative_to(source)) for path in places if path.is_relative_to(source) and path != source)
    )


def protected_to_run(loaded: Loaded, source: Path) -> tuple[str, ...]:
    """The paths in the real directory `source` that this host runs later (run_later): relative to `source`, sorted.

    The user works in the project, in `source`, in each directory between the two, and in what is mounted elsewhere.
    Raises EngineError (exit code 2) where such a path is `source` itself or lies above it (`.git/hooks`).
    """
    project, others = loaded.project.resolve(), set()
    for mount in loaded.sandbox.mounts:
        if mount.mode == "rw" and mount.protect and (other := real_source(loaded.project, mount.source)).is_dir():
            others.add(other)
    roots = {source, project, *others, *(above for above in project.parents if above.is_relative_to(source))}
    places = {place for root in roots - {source} for path in run_later(root) for place in places_on_the_way(path)}
    if whole := sorted(place for place in places if source.is_relative_to(place) and place not in roots - {source}):
        hint = "mount it with mode ro, or write protect: false"
        raise EngineError(f"a writable mount of {whole[-1]}, which this host runs later", hint=hint, exit_code=2)
    places |= {place for path in run_later(source) for place in places_on_the_way(path)}
    return tuple(
        sorted(str(path.relative_to(source)) for path in places if path.is_relative_to(source) and path != source)
    )


def hidden_in_mounts(loaded: Loaded) -> tuple[Hidden, ...]:
    """What the mounts of the file hide of the project: nothing of that is copied into the guest either."""
    project, found = loaded.project.resolve(), []
    for index, mount in enumerate(loaded.sandbox.mounts):
        if not mount.hide:
            continue
        source, place = real_source(loaded.project, mount.source), f"mounts[{index}].hide"
        if project.is_relative_to(source):
            found.append(Hidden(place, mount.hide, project=_below(project, source)))
        elif source.is_relative_to(project):
            found.append(Hidden(place, mount.hide, source=_below(source, project)))
    return tuple(found)


def _below(path: Path, above: Path) -> str:
    return "" if path == above else path.relative_to(above).as_posix()


def places_on_the_way(path: Path) -> Iterator[Path]:
    """The places where a change makes `path` mean another file: each link on the way, and the end of the path.

    Only the last component of such a place may be a link. A loop of links ends after MAX_LINKS.
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
    """The files that decide what the sandbox is: all layers, and `.env` where variables are read from it.

    Compose files that `services.include` names are not among them. They only decide what runs in the guest, and the
    agent in the guest may be working on them.
    """
    yield from loaded.layers
    if ENV_FILE in loaded.variables.values():
        yield loaded.project / ENV_FILE
