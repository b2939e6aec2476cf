"""The `services` section of a file as a Compose project in the guest."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from engine.guest.compose_project import BUILD_ROOT, FILE_ROOT, ComposeProject
from engine.project.dockerignore import DOCKERIGNORE
from engine.project.pieces import Hidden, Piece
from engine.project.tree import ProjectTree
from engine.resolve.paths import hidden_in_mounts
from engine.state.keys import content_key
from sandboxfile import Loaded, SandboxfileError
from sandboxfile.compose.services import (
    additional_contexts,
    bind_mounts,
    build_contexts,
    env_files,
    services_needing_mounts,
)
from sandboxfile.positions import KeyPath

CONFIGS_LABEL = "org.sandbox.configs"
DOCKERFILES = ("Dockerfile", "dockerfile")  # BuildKit uses the second name if there is no file of the first name


@dataclass(frozen=True)
class Compose:
    """The Compose project as the guest sees it.

    `document` is the Compose file. `contexts` are the pieces of the project that each built service is made of, `files`
    the pieces that services are configured with. `places` maps the target of each piece to the place in the Sandboxfile
    that names it. `early` services need no live mount: they start before the snapshot is made. `late` services bind a
    live mount, or depend on a service that does: they start in each sandbox.
    """

    document: dict[str, Any]
    contexts: dict[str, tuple[Piece, ...]]
    files: tuple[Piece, ...]
    places: dict[str, KeyPath]
    early: tuple[str, ...]
    late: tuple[str, ...]

    @classmethod
    def of(cls, loaded: Loaded, tree: ProjectTree) -> Compose:
        """The project of a file. It reads no content, so the pieces have no keys yet.

        Raises SandboxfileError for a bind that no mount covers, and EngineError (exit code 2) for a path that leads
        through a link.
        """
        sandbox = loaded.sandbox
        translation = Translation(loaded, tree)
        services = {name: translation.service(name, dict(service or {})) for name, service in sandbox.services.items()}
        document: dict[str, Any] = {"name": sandbox.name, "services": services}
        for section in ("volumes", "networks"):
            if value := getattr(sandbox, section):
                document[section] = dict(value)
        if sandbox.configs:
            document["configs"] = {name: translation.config(name, config) for name, config in sandbox.configs.items()}
        late = services_needing_mounts(sandbox.services, sandbox.mounts)
        early = tuple(name for name in services if name not in late)
        contexts = {
            name: tuple(replace(piece, hidden=translation.hidden) for piece in pieces)
            for name, pieces in translation.contexts.items()
        }
        return cls(document, contexts, tuple(translation.files), translation.places, early, late)

    def pieces(self) -> Iterator[Piece]:
        """All pieces of the project that are copied."""
        for pieces in self.contexts.values():
            yield from pieces
        yield from self.files

    def keyed(self, tree: ProjectTree) -> Compose:
        """This project with the keys of the content as it is now, also in the labels that Compose compares.

        Raises what `tree.key` raises.
        """
        contexts = {name: tuple(_keyed(piece, tree) for piece in pieces) for name, pieces in self.contexts.items()}
        files = tuple(_keyed(piece, tree) for piece in self.files)
        keys = {piece.target: piece.key for piece in files}
        configs = self.document.get("configs") or {}
        services = {name: _mark_configs(service, configs, keys) for name, service in self.document["services"].items()}
        return replace(self, document={**self.document, "services": services}, contexts=contexts, files=files)

    def project(self, tree: ProjectTree) -> ComposeProject:
        """The part of this that a guest needs."""
        services = self.document["services"]
        return ComposeProject(
            name=self.document["name"],
            text=self.configuration(),
            pulled=tuple(name for name in services if "build" not in services[name]),
            built=tuple(name for name in services if "build" in services[name]),
            contexts=self.contexts,
            files=self.files,
            root=str(tree.path),
            identity=tree.identity,
        )

    def configuration(self) -> str:
        """The Compose file as canonical text. It is JSON, which is YAML, too.

        All variables have been replaced already, so every dollar that is left stands for itself.
        """
        return json.dumps(escape_dollars(self.document), sort_keys=True)

    def early_configuration(self) -> str:
        """The part of the Compose file that decides how the early services run, as canonical text."""
        services = {name: service for name, service in self.document["services"].items() if name in self.early}
        return json.dumps(escape_dollars({**self.document, "services": services}), sort_keys=True)

    def image_configuration(self) -> str:
        """The part of the Compose file that decides which images are needed, as canonical text."""
        keep = ("image", "build", "platform", "pull_policy")
        services = self.document["services"]
        parts = {name: {key: service[key] for key in keep if key in service} for name, service in services.items()}
        return json.dumps(parts, sort_keys=True)

    @property
    def names_images(self) -> bool:
        """Whether Compose names an image after the project, because a built service gives no name for its image."""
        return any("image" not in service for service in self.document["services"].values())


def _keyed(piece: Piece, tree: ProjectTree) -> Piece:
    return replace(piece, key=tree.key(piece))


@dataclass
class Translation:
    """Turns paths of the project into paths of the guest, and collects what has to be copied there."""

    loaded: Loaded
    tree: ProjectTree
    contexts: dict[str, list[Piece]] = field(default_factory=dict)
    files: list[Piece] = field(default_factory=list)
    places: dict[str, KeyPath] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hidden = hidden_in_mounts(self.loaded)

    def service(self, name: str, service: dict[str, Any]) -> dict[str, Any]:
        """The service as the guest's Compose file has it. Raises SandboxfileError for a bind that no mount covers."""
        service.pop("profiles", None)  # they have decided already that this service is part of the sandbox
        if "environment" in service:
            service["environment"] = _with_values(service["environment"])
        one = {name: service}
        for _, source, _ in bind_mounts(one):
            # An absolute path belongs to the machine that runs Docker, and that is the guest.
            if not source.startswith(("/", "~")):
                service["volumes"] = [rebind(entry, source, self._bound(name, source)) for entry in service["volumes"]]
        build = service.get("build")
        if build is not None:
            build = dict(build) if isinstance(build, dict) else {"context": build}
            if "args" in build:
                build["args"] = _with_values(build["args"])
            for context in build_contexts(one).values():
                build = self._build(name, context, build)
            service["build"] = self._further_contexts(name, build)
        if paths := env_files(one).get(name):
            entries = service["env_file"] if isinstance(service["env_file"], (list, tuple)) else [service["env_file"]]
            service["env_file"] = [
                self._copied(path, f"{name}.{index}.env", ("services", name, "env_file", index))
                for index, (entry, path) in enumerate(zip(entries, paths, strict=True))
                if not _is_optional(entry) or self.tree.exists(posixpath.normpath(path))
            ]
        return service

    def _build(self, name: str, context: str, build: dict[str, Any]) -> dict[str, Any]:
        """The `build` key for the guest.

        There may be two ignore files: the Dockerfile's own, and that of the context. BuildKit uses the Dockerfile's
        own.
        """
        target = str(BUILD_ROOT / name)
        own = posixpath.normpath(posixpath.join(context, DOCKERIGNORE))
        piece = Piece(context, target, ignores=(own,), keep=(DOCKERIGNORE,))
        pieces, build = [piece], {**build, "context": target}
        dockerfile = str(build.get("dockerfile") or DOCKERFILES[0])
        if "dockerfile_inline" not in build and not dockerfile.startswith("/"):
            path = posixpath.normpath(posixpath.join(context, dockerfile))
            piece = replace(piece, ignores=(f"{path}{DOCKERIGNORE}", own))
            below = posixpath.relpath(path, context)
            if below.split("/")[0] != "..":
                names = [below] if "dockerfile" in build else DOCKERFILES
                pieces = [replace(piece, keep=(*names, f"{below}{DOCKERIGNORE}", DOCKERIGNORE))]
            else:
                directory, base = posixpath.split(path)
                away = f"{target}+dockerfile"  # no service can have this name
                keep = (base, f"{base}{DOCKERIGNORE}")
                pieces = [piece, Piece(directory or ".", away, leave_out=("*",), keep=keep)]
                build["dockerfile"] = f"{away}/{base}"
                self.places[away] = ("services", name, "build", "dockerfile")
        self.contexts[name] = pieces
        self.places[target] = ("services", name, "build")
        return build

    def _further_contexts(self, name: str, build: dict[str, Any]) -> dict[str, Any]:
        further = build.get("additional_contexts")
        for number, one in enumerate(additional_contexts({name: {"build": build}})):
            target = f"{BUILD_ROOT / name}+{number}"
            ignore = posixpath.normpath(posixpath.join(one.path, DOCKERIGNORE))
            piece = Piece(one.path, target, ignores=(ignore,), keep=(DOCKERIGNORE,))
            self.contexts.setdefault(name, []).append(piece)
            self.places[target] = ("services", name, "build", "additional_contexts", one.key)
            if isinstance(further, dict):
                further = {**further, one.name: target}
            else:
                further = [f"{one.name}={target}" if index == one.key else e for index, e in enumerate(further or ())]
        return {**build, "additional_contexts": further} if further else build

    def config(self, name: str, config: Any) -> Any:
        """The config as the guest's Compose file has it."""
        if isinstance(config, dict) and "file" in config:
            place = ("configs", name, "file")
            return {**config, "file": self._copied(str(config["file"]), f"{name}.config", place, self.hidden)}
        return config

    def _copied(self, path: str, name: str, place: KeyPath, hidden: tuple[Hidden, ...] = ()) -> str:
        """Of what is hidden only an env_file is copied: the line that names it says that containers get its values."""
        target = str(FILE_ROOT / name)
        self.files.append(Piece(posixpath.normpath(path), target, hidden=hidden))
        self.places[target] = place
        return target

    def _bound(self, service: str, source: str) -> str:
        bound = (self.loaded.project / source).resolve()
        for mount in self.loaded.sandbox.mounts:
            root = (self.loaded.project / Path(mount.source).expanduser()).resolve()
            if bound.is_relative_to(root):
                return str(PurePosixPath(mount.target) / bound.relative_to(root))
        problem = self.loaded.diagnostic(
            ("services", service, "volumes"),
            f"binds {source!r}, which no mount brings into the sandbox",
            "add it to mounts, or use a named volume",
        )
        raise SandboxfileError([problem])


def _with_values(entries: Any) -> Any:
    """The variables of a service or build that have a value: a name alone would take that of the guest's own."""
    if isinstance(entries, dict):
        return {name: value for name, value in entries.items() if value is not None}
    return [entry for entry in entries or () if "=" in str(entry)]


def _is_optional(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("required") is False


def _mark_configs(service: dict[str, Any], configs: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    """The service, with a label that holds the key of its configs' content.

    Compose starts a container again when the service has changed, labels included. It does not notice when only the
    content of a config has changed.
    """
    entries = service.get("configs") or ()
    names = [str(entry.get("source") if isinstance(entry, dict) else entry) for entry in entries]
    used = {name: configs[name] for name in names if isinstance(configs.get(name), dict)}
    if not used:
        return service
    contents = {name: keys[one["file"]] for name, one in used.items() if one.get("file") in keys}
    value = content_key(used, contents)
    labels = service.get("labels") or {}
    marked = [*labels, f"{CONFIGS_LABEL}={value}"] if isinstance(labels, list) else {**labels, CONFIGS_LABEL: value}
    return {**service, "labels": marked}


def escape_dollars(value: Any) -> Any:
    """The value with every dollar doubled: the guest's Compose must not replace variables again.

    Compose replaces variables in values only, so keys stay as they are.
    """
    if isinstance(value, dict):
        return {key: escape_dollars(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escape_dollars(item) for item in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def rebind(entry: Any, source: str, target: str) -> Any:
    """An entry of a service's volumes, with the bind source `source` replaced by `target`; other entries unchanged."""
    if isinstance(entry, str) and entry.split(":", 1)[0] == source:
        return target + entry[len(source) :]
    if isinstance(entry, dict) and entry.get("type") == "bind" and entry.get("source") == source:
        return {**entry, "source": target}
    return entry
