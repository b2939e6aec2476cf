"""Checking, before anything starts, that the paths that are to be copied into the guest exist and can be copied.

Only the paths are checked. How large a tree is, and what it contains, shows when it is hashed.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.errors import EngineError
from engine.project.dockerignore import DOCKERIGNORE, IgnoreFileError
from engine.project.inputs import input_piece
from engine.project.pieces import Hidden, Piece
from engine.project.tree import MissingError, PathError, ProjectTree, opened
from engine.resolve.compose import DOCKERFILES, Compose
from engine.resolve.paths import hidden_in_mounts
from sandboxfile import Diagnostic, Loaded, SandboxfileError
from sandboxfile.diagnostics import quote
from sandboxfile.positions import KeyPath, Position

EXAMPLES = ("example", "sample", "dist", "template", "tmpl", "default", "defaults")
MOST_NAMES = 10_000  # of a directory, to find the nearest one


def check_copied(loaded: Loaded) -> Iterator[Diagnostic]:
    """A problem for each path that is missing, leads through a link or is of the wrong kind.

    Raises EngineError (exit code 2) when the project itself cannot be opened.
    """
    sandbox = loaded.sandbox
    if not sandbox.services and not any(step.inputs for step in sandbox.setup):
        return
    tree = opened(loaded.project)
    hidden = hidden_in_mounts(loaded)
    for index, step in enumerate(sandbox.setup):
        for number, name in enumerate(step.inputs):
            place: KeyPath = ("setup", index, "inputs", number)
            try:
                _check_input(tree, name, hidden)
            except EngineError as error:
                hint = error.hint or (_near(loaded.project, name) if isinstance(error, MissingError) else None)
                yield loaded.diagnostic(place, error.brief, hint)
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


def _check_input(tree: ProjectTree, name: str, hidden: tuple[Hidden, ...]) -> None:
    piece = input_piece(tree, name, "/", hidden)
    if piece.pattern:
        if tree.exists(piece.path):
            tree.check_hidden(piece)
        if not tree.exists(piece.path) or not tree.matches(piece):
            raise PathError(f"{name!r} matches no file of the project", "* does not match a /, and ** does")
    elif tree.kind(name) == "other":
        raise PathError(f"{name!r} is neither a file nor a directory")
    else:
        tree.check_hidden(piece)


def _check(
    loaded: Loaded, compose: Compose, tree: ProjectTree, piece: Piece, service: str | None = None
) -> Iterator[Diagnostic]:
    """Check one piece, which is a directory if `service` is built from it, and else a file."""
    place = compose.places[piece.target]
    expected = "file" if service is None else "directory"
    try:
        kind = tree.kind(piece.path)
        if kind != expected:
            raise PathError(f"{piece.path!r} is {'a directory' if kind == 'directory' else f'no {expected}'}")
        tree.check_hidden(piece)
        tree.check_ignores(piece)
    except IgnoreFileError as error:
        position = Position(error.line, 1) if error.line else None
        yield Diagnostic(position, (), error.message, None, error.file, error.text or None)
    except EngineError as error:
        hint = error.hint
        if isinstance(error, MissingError) and hint is None:
            hint = (None if service else _example(tree, piece.path)) or _near(loaded.project, piece.path)
        yield loaded.diagnostic(_written(loaded, place, "context"), error.brief, hint)
    else:
        try:
            _check_dockerfile(tree, piece)
        except EngineError as error:
            yield loaded.diagnostic(_written(loaded, place, "dockerfile"), error.brief, error.hint)


def _example(tree: ProjectTree, path: str) -> str | None:
    """What makes the missing file out of its example, if that is there."""
    directory, name = posixpath.split(path)
    stem, ending = posixpath.splitext(name)
    for word in EXAMPLES:
        names = [f"{name}.{word}", f"{stem}.{word}{ending}", f"{word}{name}"] if stem else [f"{name}.{word}"]
        for each in (posixpath.join(directory, one) for one in names):
            if tree.exists(each) and tree.kind(each) == "file":
                return f"{shlex.join(['cp', each, path])}, and fill it in"
    if name.endswith(".env") or name.startswith(".env"):
        return "add it; one that may be missing is written {path: " + path + ", required: false}"
    return None


def _near(project: Path, path: str) -> str:
    """A hint for a missing path: the nearest name that is there beside it."""
    directory, name = posixpath.split(path)
    beside = project / directory
    try:
        inside = beside.resolve().is_relative_to(project.resolve())
        names = [entry.name for entry, _ in zip(os.scandir(beside), range(MOST_NAMES), strict=False)] if inside else []
    except (OSError, RuntimeError):
        names = []
    if near := difflib.get_close_matches(name, names, n=1):
        return f"did you mean {quote(posixpath.join(directory, near[0]))}?"
    return f"{directory or 'the project'} has no such name: correct it, or add what is missing"


def _check_dockerfile(tree: ProjectTree, piece: Piece) -> None:
    """Check that the piece has its Dockerfile, if it needs one: that is the first name in `keep`."""
    name, *others = piece.keep or (DOCKERIGNORE,)
    if name == DOCKERIGNORE:
        return
    path = posixpath.normpath(posixpath.join(piece.path, name))
    if {name, *others}.issuperset(DOCKERFILES) and tree.exists(posixpath.join(piece.path, DOCKERFILES[1])):
        return
    if not tree.exists(path):
        raise MissingError(f"there is no {path}", "the image is built by it: add it, or name another as `dockerfile`")
    if piece.leave_out and tree.kind(path) != "file":  # within a context it may be a link, which Docker follows
        raise PathError(f"{path!r} is no file")


def _written(loaded: Loaded, place: KeyPath, key: str) -> KeyPath:
    """The place as the file writes it: the wrong key in the long form of a build, no index for a single `env_file`."""
    if len(place) == 3 and place[2] == "build":
        build = loaded.sandbox.services[str(place[1])]["build"]
        if isinstance(build, Mapping) and key in build:
            return (*place, key)
    if place[2:3] == ("env_file",):
        files = loaded.sandbox.services[str(place[1])]["env_file"]
        return place if isinstance(files, (list, tuple)) else place[:3]
    return place
