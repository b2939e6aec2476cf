"""The services section as one Compose project in the guest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from engine.compose_project import BUILD_ROOT, FILE_ROOT, ComposeProject
from engine.content import content_key, hash_tree
from engine.errors import EngineError
from engine.nodes.project import inside
from sandboxfile import Loaded
from sandboxfile.positions import KeyPath
from sandboxfile.services import bind_mounts, build_contexts, env_files, services_needing_mounts

CONFIGS_LABEL = "org.sandbox.configs"


@dataclass(frozen=True)
class Compose:
    """The project as the guest sees it.

    `document` is the Compose file; `contexts` the host directory of each built service; `files` the project's files
    that services are configured with, by their path in the guest, and `places` where the Sandboxfile names each of
    these. `early` services can start without the live mounts and are in the snapshot; `late` ones bind-mount one (or
    depend on such a service) and start in each sandbox.
    """

    document: dict[str, Any]
    contexts: dict[str, Path]
    files: dict[str, Path]
    places: dict[str, KeyPath]
    early: tuple[str, ...]
    late: tuple[str, ...]

    @classmethod
    def of(cls, loaded: Loaded) -> Compose:
        """Raises EngineError (exit code 2) for files that are not there and binds that no mount covers."""
        sandbox = loaded.sandbox
        translation = Translation(loaded)
        services = {name: translation.service(name, dict(service or {})) for name, service in sandbox.services.items()}
        document: dict[str, Any] = {"name": sandbox.name, "services": services}
        for section in ("volumes", "networks"):
            if value := getattr(sandbox, section):
                document[section] = dict(value)
        if sandbox.configs:
            document["configs"] = {name: translation.config(name, config) for name, config in sandbox.configs.items()}
            for service in services.values():
                _mark_configs(service, document["configs"], translation.files)
        late = services_needing_mounts(sandbox.services, sandbox.mounts)
        early = tuple(name for name in services if name not in late)
        return cls(document, translation.contexts, translation.files, translation.places, early, late)

    def project(self) -> ComposeProject:
        """What a guest needs of it."""
        services = self.document["services"]
        return ComposeProject(
            name=self.document["name"],
            text=self.configuration(),
            pulled=tuple(name for name in services if "build" not in services[name]),
            built=tuple(name for name in services if "build" in services[name]),
            contexts={name: str(path) for name, path in self.contexts.items()},
            files={target: str(path) for target, path in self.files.items()},
        )

    def configuration(self) -> str:
        """The canonical text of the project: JSON is YAML. Variables have been replaced: every dollar is one."""
        return json.dumps(escape_dollars(self.document), sort_keys=True)

    def image_configuration(self) -> str:
        """The part that decides which images are needed, canonical."""
        keep = ("image", "build", "platform", "pull_policy")
        services = self.document["services"]
        parts = {name: {key: service[key] for key in keep if key in service} for name, service in services.items()}
        return json.dumps(parts, sort_keys=True)


@dataclass
class Translation:
    """Paths of the project become paths of the guest; remembers what has to be copied there."""

    loaded: Loaded
    contexts: dict[str, Path] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    places: dict[str, KeyPath] = field(default_factory=dict)

    def service(self, name: str, service: dict[str, Any]) -> dict[str, Any]:
        one = {name: service}
        for _, source, _ in bind_mounts(one):
            # An absolute path is one of the machine that runs Docker, and that is the guest.
            if not source.startswith(("/", "~")):
                service["volumes"] = [rebind(entry, source, self._bound(name, source)) for entry in service["volumes"]]
        for context in build_contexts(one).values():
            self.contexts[name] = inside(self.loaded.project, context)
            build = service["build"]
            moved = {"context": str(BUILD_ROOT / name)}
            service["build"] = {**build, **moved} if isinstance(build, dict) else moved
        if paths := env_files(one).get(name):
            service["env_file"] = [
                self._copied(path, f"{name}.{index}.env", ("services", name, "env_file", index))
                for index, path in enumerate(paths)
            ]
        return service

    def config(self, name: str, config: Any) -> Any:
        if isinstance(config, dict) and "file" in config:
            return {**config, "file": self._copied(str(config["file"]), f"{name}.config", ("configs", name, "file"))}
        return config

    def _copied(self, path: str, name: str, place: KeyPath) -> str:
        target = str(FILE_ROOT / name)
        self.files[target] = inside(self.loaded.project, path)
        self.places[target] = place
        return target

    def _bound(self, service: str, source: str) -> str:
        wanted = (self.loaded.project / source).resolve()
        for mount in self.loaded.sandbox.mounts:
            root = (self.loaded.project / Path(mount.source).expanduser()).resolve()
            if wanted.is_relative_to(root):
                return str(PurePosixPath(mount.target) / wanted.relative_to(root))
        problem = self.loaded.diagnostic(
            ("services", service, "volumes"),
            f"binds {source!r}, which no mount brings into the sandbox",
            "add it to mounts, or use a named volume",
        )
        raise EngineError(str(problem), exit_code=2)


def _mark_configs(service: dict[str, Any], configs: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """A label with the key of what the service's configs say: Compose compares what a service is, labels included, and
    leaves a container alone when nothing but the content of a config has changed."""
    entries = service.get("configs") or ()
    names = [str(entry.get("source") if isinstance(entry, dict) else entry) for entry in entries]
    used = {name: configs[name] for name in names if isinstance(configs.get(name), dict)}
    if not used:
        return
    contents = {name: hash_tree(files[one["file"]]) for name, one in used.items() if one.get("file") in files}
    value = content_key(used, contents)
    labels = service.get("labels") or {}
    marked = [*labels, f"{CONFIGS_LABEL}={value}"] if isinstance(labels, list) else {**labels, CONFIGS_LABEL: value}
    service["labels"] = marked


def escape_dollars(value: Any) -> Any:
    """The guest's Compose would replace variables once more, by the guest's environment; it does so in values only."""
    if isinstance(value, dict):
        return {key: escape_dollars(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escape_dollars(item) for item in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def rebind(entry: Any, source: str, target: str) -> Any:
    """One entry of a service's volumes with the bind source `source` replaced by `target`; others as they are."""
    if isinstance(entry, str) and entry.split(":", 1)[0] == source:
        return target + entry[len(source) :]
    if isinstance(entry, dict) and entry.get("type") == "bind" and entry.get("source") == source:
        return {**entry, "source": target}
    return entry
