"""Reading the Compose files of the project that a Sandboxfile uses."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sandboxfile.compose.services import is_bound, is_elsewhere, volume_entry
from sandboxfile.diagnostics import Diagnostic, Problem, quote
from sandboxfile.reading.document import Placed
from sandboxfile.reading.regular_file import LeadsOutError, read_within
from sandboxfile.reading.source import MAX_BYTES, Source, read_source
from sandboxfile.reading.substitution import substitute
from sandboxfile.reading.variables import FILE_NAME as ENV_FILE
from sandboxfile.reading.variables import Variables

MOST_FILES = 20
_OF_WINDOWS = re.compile(r"[A-Za-z]:[\\/]")  # a path with a drive, which Compose leaves as it is


class ComposeFiles:
    """Reads each file once, replaces its variables, and makes its paths relative to the project.

    `sources` are the files that were read; `problems` are about the files that could not be read.
    """

    def __init__(self, project: Path, variables: Variables) -> None:
        self._project = project
        self._variables = variables
        self._read: dict[tuple[str, str, tuple[str, ...]], Source] = {}
        self.problems: list[Diagnostic] = []

    @property
    def sources(self) -> list[Source]:
        return list(self._read.values())

    def read(
        self, item: Placed, name: str, directory: str | None = None, variables: Variables | None = None
    ) -> Source | None:
        """Read the file `name`, a normalised path relative to the project; None when it cannot be read.

        `item` is the value that names the file: problems are reported at its place. The file's own paths start at
        `directory` (default: where it is), and it reads `variables` (default: those of the project).
        """
        directory = posixpath.dirname(name) if directory is None else directory
        variables = variables or self._variables
        key = (name, directory, variables.names)
        if key not in self._read:
            if len(self._read) >= MOST_FILES:
                self.complain(item, f"more than {MOST_FILES} files are included")
                return None
            text = self._text(item, name)
            if text is None:
                return None
            source = self._read[key] = read_source(text, name, compose=True)
            if source.readable:
                substitute(source, variables, compose=True)
                if directory:
                    rebase(source.data, directory, self._project)
        source = self._read[key]
        return source if source.readable else None

    def variables_of(self, above: Variables | None, names: tuple[str, ...]) -> Variables:
        """The variables of an included file that has these files for them, below those of the file that includes it."""
        above = above or self._variables
        names = tuple(name for name in names if name != ENV_FILE)
        return above.below(names) if names else above

    def exists(self, name: str) -> bool:
        """Whether the project has a file of this name."""
        return not name.startswith(("/", "..", "~")) and (self._project / name).is_file()

    def complain(self, item: Placed, message: str, hint: str | None = None) -> None:
        """Report a problem at the place of `item`."""
        self.problems.append(item.source.diagnose(Problem(item.path, message, hint)))

    def _text(self, item: Placed, name: str) -> bytes | None:
        path = self._project / name
        try:
            if name.startswith(("/", "..", "~")):
                self.complain(item, f"{quote(name)} is outside the project")
                return None
            return read_within(self._project, path, MAX_BYTES)
        except LeadsOutError as error:
            self.complain(item, f"{quote(name)} is outside the project: {error}")
            return None
        except (OSError, ValueError) as error:
            reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
            self.complain(item, f"{quote(name)} {reason}", "the path is relative to the file that names it")
            return None


def rebase(data: dict[str, Any], directory: str, project: Path) -> None:
    """Make the relative paths of a Compose file, which start at `directory`, relative to the project.

    `../../shop` in shop/.devcontainer is the project, by its name, and becomes `.`.
    """
    home = posixpath.abspath(project)

    def moved(path: str) -> str:
        if path.startswith(("/", "~")) or _OF_WINDOWS.match(path):
            return path
        joined = posixpath.normpath(posixpath.join(directory, path))
        whole = posixpath.normpath(posixpath.join(home, joined))
        if joined.startswith("..") and f"{whole}/".startswith(f"{home.rstrip('/')}/"):
            return posixpath.relpath(whole, home)
        return joined

    for service in _mappings(data.get("services")):
        _rebase_service(service, moved)
    for volume in _mappings(data.get("volumes")):
        if is_bound(options := volume.get("driver_opts")) and isinstance(options.get("device"), str):
            options["device"] = moved(options["device"])
    for config in [*_mappings(data.get("configs")), *_mappings(data.get("secrets"))]:
        if isinstance(config.get("file"), str):
            config["file"] = moved(config["file"])


def _rebase_service(service: dict[str, Any], moved: Callable[[str], str]) -> None:
    build = service.get("build")
    if isinstance(build, str):
        service["build"] = build if "://" in build else moved(build)
    elif isinstance(build, dict):
        if "://" not in str(context := build.get("context", ".")):
            build["context"] = moved(str(context))
        build |= _rebase_contexts(build.get("additional_contexts"), moved)
    extended = service.get("extends")
    if isinstance(extended, dict) and isinstance(extended.get("file"), str):
        extended["file"] = moved(extended["file"])
    developed = service.get("develop")
    for watched in developed.get("watch") or () if isinstance(developed, dict) else ():
        if isinstance(watched, dict) and isinstance(watched.get("path"), str):
            watched["path"] = moved(watched["path"])
    files = service.get("env_file")
    if isinstance(files, str):
        service["env_file"] = moved(files)
    elif isinstance(files, list):
        service["env_file"] = [
            {**entry, "path": moved(str(entry["path"]))} if isinstance(entry, dict) and "path" in entry
            else moved(entry) if isinstance(entry, str) else entry
            for entry in files
        ]  # fmt: skip
    volumes = service.get("volumes")
    if not isinstance(volumes, list):
        return
    for index, entry in enumerate(volumes):
        kind, source, _ = volume_entry(entry)
        if kind != "bind" or not source or source.startswith(("/", "~")) or _OF_WINDOWS.match(source):
            continue
        if isinstance(entry, dict):
            entry["source"] = f"./{moved(source)}"
        else:
            volumes[index] = f"./{moved(source)}{str(entry)[len(source) :]}"


def _rebase_contexts(further: Any, moved: Callable[[str], str]) -> dict[str, Any]:
    def there(path: str) -> str:
        return path if is_elsewhere(path) else moved(path)

    if isinstance(further, dict):
        return {"additional_contexts": {name: there(str(path)) for name, path in further.items()}}
    if not isinstance(further, list):
        return {}
    pairs = (str(entry).partition("=") for entry in further)
    return {"additional_contexts": [f"{name}{sign}{there(path)}" for name, sign, path in pairs]}


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    return (item for item in value.values() if isinstance(item, dict)) if isinstance(value, dict) else iter(())
