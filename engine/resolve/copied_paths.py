"""Whether what a file names to be copied into the guest is there, and can be copied: looked at before anything starts.

Only the paths are: how large a tree is, and what lies in it, is seen when it is hashed.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping

from engine.errors import EngineError
from engine.project.dockerignore import DOCKERIGNORE, IgnoreFileError
from engine.project.inputs import input_piece
from engine.project.pieces import Piece
from engine.project.tree import MissingError, PathError, ProjectTree, opened
from engine.resolve.compose import DOCKERFILES, Compose
from sandboxfile import Diagnostic, Loaded, SandboxfileError
from sandboxfile.positions import KeyPath, Position


def check_copied(loaded: Loaded) -> Iterator[Diagnostic]:
    """Everything that is missing, leads through a link or is of the wrong kind, with its place.

    Raises EngineError (exit code 2) where the project itself cannot be opened.
    """
    sandbox = loaded.sandbox
    if not sandbox.services and not any(step.inputs for step in sandbox.setup):
        return
    tree = opened(loaded.project)
    for index, step in enumerate(sandbox.setup):
        for number, name in enumerate(step.inputs):
            place: KeyPath = ("setup", index, "inputs", number)
            try:
                _check_input(tree, name)
            except EngineError as error:
                yield loaded.diagnostic(place, error.brief, error.hint)
    if not sandbox.services:
        return
    try:
        compose = Compose.of(loaded, tree)
    except SandboxfileError as error:
        yield from error.diagnostics
        return
    for service, pieces in compose.contexts.items():
        for piece in pieces:
            yield from _check(loaded, compose, tree, piece, service)
    for piece in compose.files:
        yield from _check(loaded, compose, tree, piece)


def _check_input(tree: ProjectTree, name: str) -> None:
    piece = input_piece(tree, name, "/")
    if piece.pattern:
        if not tree.exists(piece.path) or not tree.matches(piece):
            raise PathError(f"{name!r} matches no file of the project", "* does not match a /, and ** does")
    elif tree.kind(name) == "other":
        raise PathError(f"{name!r} is neither a file nor a directory")


def _check(
    loaded: Loaded, compose: Compose, tree: ProjectTree, piece: Piece, service: str | None = None
) -> Iterator[Diagnostic]:
    """One piece; with `service` it is one of those that the service is built from."""
    place = compose.places[piece.target]
    wanted = "file" if service is None else "directory"
    try:
        kind = tree.kind(piece.path)
        if kind != wanted:
            raise PathError(f"{piece.path!r} is {'a directory' if kind == 'directory' else f'no {wanted}'}")
        tree.check_ignores(piece)
    except IgnoreFileError as error:
        position = Position(error.line, 1) if error.line else None
        yield Diagnostic(position, (), error.message, None, error.file, error.text or None)
    except EngineError as error:
        yield loaded.diagnostic(_written(loaded, place, "context"), error.brief, error.hint)
    else:
        try:
            _check_dockerfile(tree, piece)
        except EngineError as error:
            yield loaded.diagnostic(_written(loaded, place, "dockerfile"), error.brief, error.hint)


def _check_dockerfile(tree: ProjectTree, piece: Piece) -> None:
    """Of a piece that is to hold one: the first name that it keeps."""
    name, *others = piece.keep or (DOCKERIGNORE,)
    if name == DOCKERIGNORE:
        return
    path = posixpath.normpath(posixpath.join(piece.path, name))
    if {name, *others}.issuperset(DOCKERFILES) and tree.exists(posixpath.join(piece.path, DOCKERFILES[1])):
        return
    if not tree.exists(path):
        raise MissingError(f"there is no {path}", "the image is built by it: add it, or name another as `dockerfile`")
    if piece.leave_out and tree.kind(path) != "file":  # in a context it may be a link, which Docker follows there
        raise PathError(f"{path!r} is no file")


def _written(loaded: Loaded, place: KeyPath, key: str) -> KeyPath:
    """The place itself; of a build's long form the key in it that is wrong, of a single `env_file` no index."""
    if len(place) == 3 and place[2] == "build":
        build = loaded.sandbox.services[str(place[1])]["build"]
        if isinstance(build, Mapping) and key in build:
            return (*place, key)
    if place[2:3] == ("env_file",):
        files = loaded.sandbox.services[str(place[1])]["env_file"]
        return place if isinstance(files, (list, tuple)) else place[:3]
    return place
