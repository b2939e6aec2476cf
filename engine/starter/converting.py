"""Recognising the format of a file of another tool, and converting it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from engine.agents import list_agents
from engine.errors import EngineError
from engine.files import check_relative
from engine.starter.containers import COMPOSE_FILES
from engine.starter.conversion import Conversion, read_foreign
from engine.starter.from_compose import convert_compose
from engine.starter.from_devcontainer import convert_devcontainer
from engine.starter.from_sbxenv import convert_sbxenv
from engine.starter.proposals import Findings

DEV_CONTAINER_FOLDER = ".devcontainer"

_COMPOSE_NAME = re.compile(r"(docker-)?compose([.-].*)?\.ya?ml|.*\.compose\.ya?ml")
_SBXENV_NAME = re.compile(r"(.*\.)?sbxenv\.ya?ml")


def find_foreign(path: Path) -> Path:
    """The file to convert:

    `path` itself, or the file that the directory `path` has. Raises EngineError (exit code 2).
    """
    if path.is_dir():
        found = [name for name in _NAMES if (path / name).is_file()]
        if not found:
            found = sorted(str(each.relative_to(path)) for pattern in _CHOICES for each in path.glob(pattern))
        if len(found) > 1 and found[0] not in _NAMES:
            hint = f"choose one: --from {path / found[0]}; there are {', '.join(found[:10])}"
            raise EngineError(f"{path} has several dev containers", hint=hint, exit_code=2)
        if found:
            return _kept_inside(path / found[0], path)
    if not os.path.lexists(path):
        check_relative(path)
        raise EngineError(f"{path} does not exist", hint=f"--from takes {_HINT}", exit_code=2)
    if not path.is_file():
        raise EngineError(f"{path} is no file that can be converted", hint=_HINT, exit_code=2)
    return path


def find_dev_container(root: Path) -> Path | None:
    """The devcontainer.json of the project in `root`; None when there is none.

    Raises EngineError (exit code 2) when there are several, and when it is a link out of the project.
    """
    found = [name for name in _DEV_CONTAINERS if (root / name).is_file()]
    if not found:
        found = sorted(str(each.relative_to(root)) for each in root.glob(_CHOICES[0]))
        if len(found) > 1:
            hint = f"choose one: --from {found[0]}; there are {', '.join(found[:10])}"
            raise EngineError("there are several", hint=hint, exit_code=2)
    return _kept_inside(root / found[0], root) if found else None


def is_dev_container(path: Path) -> bool:
    """Whether the file at `path` is read as a devcontainer.json."""
    return path.suffix == ".json"


def _kept_inside(path: Path, directory: Path) -> Path:
    """Return `path`. Raises EngineError (exit code 2) when it is a link out of `directory`.

    Nobody has named this file, and a link in a repository could lead to a file of the user's own.
    """
    if not (real := path.resolve()).is_relative_to(directory.resolve()):
        hint = f"if that is meant: --from {real}"
        raise EngineError(f"{path} was not read: it is a link that leads to {real}", hint=hint, exit_code=2)
    return path


def project_of(path: Path) -> Path:
    """The directory that the Sandboxfile made from the file at `path` belongs into."""
    folder = path.absolute().parent
    in_folder = [parent for parent in folder.parents if folder.is_relative_to(parent / DEV_CONTAINER_FOLDER)]
    return in_folder[0] if in_folder else folder


def convert(path: Path, output: Path) -> Findings:
    """Convert the file at `path` to proposals for a Sandboxfile at `output`.

    Raises EngineError (exit code 2) for a file of an unknown kind, and SandboxfileError for a broken file.
    """
    source = read_foreign(path)
    conversion = Conversion(source, path.absolute().parent, output.absolute().parent)
    kind = _kind(path.name, source.data)
    if kind == "compose":
        convert_compose(conversion, output)
    elif kind == "devcontainer":
        convert_devcontainer(conversion)
    else:
        convert_sbxenv(conversion, list_agents())
    return conversion.found


def _kind(name: str, data: dict[str, Any]) -> str:
    if is_dev_container(Path(name)):
        return "devcontainer"
    if _SBXENV_NAME.fullmatch(name) or "schemaVersion" in data:
        return "sbxenv"
    if _COMPOSE_NAME.fullmatch(name) or isinstance(data.get("services"), dict):
        return "compose"
    raise EngineError(f"{name} is of no kind that can be converted", hint=_HINT, exit_code=2)


# What a directory is searched for, the most telling first.
_DEV_CONTAINERS = (f"{DEV_CONTAINER_FOLDER}/devcontainer.json", ".devcontainer.json")
_NAMES = (
    "devcontainer.json",
    *_DEV_CONTAINERS,
    "sbxenv.yaml",
    ".sbxenv.yaml",
    *COMPOSE_FILES,
)
_CHOICES = (f"{DEV_CONTAINER_FOLDER}/*/devcontainer.json", "*/devcontainer.json")
_HINT = "a Compose file, a devcontainer.json, or an sbxenv.yaml"
