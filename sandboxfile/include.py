"""`services: {include: compose.yaml}`: services of a Compose file of the project, under those of the file itself."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .compose import SECTIONS
from .diagnostics import Diagnostic, Problem, quote
from .document import Document, Placed, place
from .layers import lay_over
from .regular_file import read_regular_file
from .services import volume_entry
from .source import MAX_BYTES, Source, read_source
from .substitution import substitute
from .variables import Variables

KEY = "include"
MOST_FILES = 20
_IGNORED = ("version", "name", "include")


class Includes:
    """Reads the Compose files that a document includes; `files` are those that were read, `sources` their texts."""

    def __init__(self, project: Path, variables: Variables) -> None:
        self._project = project
        self._variables = variables
        self.files: list[Path] = []
        self.sources: list[Source] = []
        self.problems: list[Diagnostic] = []

    def resolve(self, document: Document) -> Document:
        """The document with the included services in it, its own entries laid over them."""
        services = document.data.get("services") if isinstance(document.data, dict) else None
        wanted = services.get(KEY) if isinstance(services, dict) else None
        if wanted is None or _is_service(wanted):
            return document
        tree = document.tree()
        section = tree.value["services"]
        entries = section.value[KEY]
        if entries.value == []:
            self._complain(entries, "names no file", "such as include: compose.yaml")
        own = {name: item for name, item in section.value.items() if name != KEY}
        base: Placed | None = None
        for item in entries.value if isinstance(entries.value, list) else [entries]:
            found = self._read(item, "", ())
            base = found if base is None else base if found is None else lay_over(base, found)
        rest = {**tree.value, "services": Placed(own, section.source, section.path)}
        over = Placed(rest, tree.source, tree.path)
        return Document.of(lay_over(base, over) if base is not None else over, document.main)

    def _read(self, item: Placed, directory: str, above: tuple[str, ...]) -> Placed | None:
        """The sections of the Compose file that `item` names, relative to `directory` of the project."""
        paths = _paths(item)
        if paths is None:
            self._complain(
                item, "must be the path of a Compose file, or a list of them", "such as include: compose.yaml"
            )
            return None
        merged: Placed | None = None
        for text in paths:
            found = self._file(item, posixpath.normpath(posixpath.join(directory, text)), above)
            merged = found if merged is None else merged if found is None else lay_over(merged, found)
        return merged

    def _file(self, item: Placed, name: str, above: tuple[str, ...]) -> Placed | None:
        if name in above:
            self._complain(item, f"{name} includes itself: {' -> '.join([*above, name])}")
            return None
        if len(self.files) >= MOST_FILES:
            self._complain(item, f"more than {MOST_FILES} files are included")
            return None
        path = self._project / name
        try:
            if name.startswith(("/", "..", "~")) or not path.resolve().is_relative_to(self._project.resolve()):
                self._complain(item, f"{quote(name)} is outside the project")
                return None
            text = read_regular_file(path, MAX_BYTES)
        except (OSError, RuntimeError, ValueError) as error:
            reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
            self._complain(item, f"{quote(name)} {reason}", "the path is relative to the file that names it")
            return None
        self.files.append(path)
        source = read_source(text, name)
        self.sources.append(source)
        if not source.readable:
            return None
        substitute(source, self._variables, compose=True)
        return self._sections(source, posixpath.dirname(name), (*above, name))

    def _sections(self, source: Source, directory: str, above: tuple[str, ...]) -> Placed:
        """What of a Compose file belongs into a Sandboxfile, its paths relative to the project."""
        data = source.data
        for key in data:
            if key not in SECTIONS and key not in _IGNORED and key != "secrets" and not key.startswith("x-"):
                problem = Problem((key,), "is not a section that a sandbox can take over", None, True)
                source.problems.append(source.diagnose(problem))
        if directory:
            _rebase(data, directory)
        _secrets_to_configs(data)
        kept = {key: value for key, value in data.items() if key in SECTIONS and isinstance(value, dict)}
        found = place(kept, source)
        inner = data.get(KEY)
        for item in inner if isinstance(inner, list) else [] if inner is None else [inner]:
            below = self._read(place(item, source, (KEY,)), directory, above)
            found = found if below is None else lay_over(below, found)
        return found

    def _complain(self, item: Placed, message: str, hint: str | None = None) -> None:
        self.problems.append(item.source.diagnose(Problem(item.path, message, hint)))


def _is_service(value: Any) -> bool:
    """A service may be called `include`, too."""
    return isinstance(value, dict) and "path" not in value


def _paths(item: Placed) -> list[str] | None:
    value = item.value
    if isinstance(value, dict):
        inner = value.get("path")
        return _paths(inner) if isinstance(inner, Placed) else None
    if isinstance(value, list):
        texts = [entry.value for entry in value]
        return texts if texts and all(isinstance(text, str) and text for text in texts) else None
    return [value] if isinstance(value, str) and value else None


def _rebase(data: dict[str, Any], directory: str) -> None:
    """Relative paths of a Compose file start at its own directory; those of a Sandboxfile at the project."""

    def moved(path: str) -> str:
        return path if path.startswith(("/", "~")) else posixpath.normpath(posixpath.join(directory, path))

    for service in _mappings(data.get("services")):
        _rebase_service(service, moved)
    for config in [*_mappings(data.get("configs")), *_mappings(data.get("secrets"))]:
        if isinstance(config.get("file"), str):
            config["file"] = moved(config["file"])


def _rebase_service(service: dict[str, Any], moved: Callable[[str], str]) -> None:
    build = service.get("build")
    if isinstance(build, str):
        service["build"] = build if "://" in build else moved(build)
    elif isinstance(build, dict) and "://" not in str(context := build.get("context", ".")):
        build["context"] = moved(str(context))
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
        if kind != "bind" or not source or source.startswith(("/", "~")):
            continue
        if isinstance(entry, dict):
            entry["source"] = f"./{moved(source)}"
        else:
            volumes[index] = f"./{moved(source)}{str(entry)[len(source) :]}"


def _secrets_to_configs(data: dict[str, Any]) -> None:
    """A Compose secret that is a file of the project becomes a config in the same place of the container.

    It is no more secret than the project itself, which the guest sees. Others stay, and are refused with their place.
    """
    declared = data.get("secrets")
    files = {
        name: entry["file"]
        for name, entry in (declared.items() if isinstance(declared, dict) else ())
        if isinstance(entry, dict) and isinstance(entry.get("file"), str)
    }
    for service in _mappings(data.get("services")):
        wanted = service.get("secrets")
        if not isinstance(wanted, list) or not all(_secret_name(entry) in files for entry in wanted):
            continue
        del service["secrets"]
        configs = service.setdefault("configs", [])
        if not isinstance(configs, list):
            continue
        for entry in wanted:
            name = _secret_name(entry)
            target = entry.get("target", name) if isinstance(entry, dict) else name
            path = str(target) if str(target).startswith("/") else f"/run/secrets/{target}"
            configs.append({"source": f"secret_{name}", "target": path})
            sections = data.setdefault("configs", {})
            if isinstance(sections, dict):
                sections[f"secret_{name}"] = {"file": files[name]}


def _secret_name(entry: Any) -> str:
    return str(entry.get("source", "")) if isinstance(entry, dict) else str(entry)


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    return (item for item in value.values() if isinstance(item, dict)) if isinstance(value, dict) else iter(())
