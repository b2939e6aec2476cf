"""The services section as one Compose project in the guest."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from engine.errors import EngineError
from engine.nodes.project import inside
from sandboxfile import Loaded
from sandboxfile.services import bind_mounts, build_contexts, env_files, services_needing_mounts

BUILD_ROOT = PurePosixPath("/var/lib/sandbox/build")
FILE_ROOT = PurePosixPath("/var/lib/sandbox/files")


@dataclass(frozen=True)
class Compose:
    """The project as the guest sees it.

    `document` is the Compose file; `contexts` the host directory of each built service; `files` the project's files
    that services are configured with, by their path in the guest. `early` services can start without the live mounts
    and are in the snapshot; `late` ones bind-mount one (or depend on such a service) and start in each sandbox.
    """

    document: dict[str, Any]
    contexts: dict[str, Path]
    files: dict[str, Path]
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
        late = services_needing_mounts(sandbox.services, sandbox.mounts)
        early = tuple(name for name in services if name not in late)
        return cls(document, translation.contexts, translation.files, early, late)

    def configuration(self) -> str:
        """The canonical text of the project: JSON is YAML."""
        return json.dumps(self.document, sort_keys=True)

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
            service["env_file"] = [self._copied(path, f"{name}.{index}.env") for index, path in enumerate(paths)]
        return service

    def config(self, name: str, config: Any) -> Any:
        if isinstance(config, dict) and "file" in config:
            return {**config, "file": self._copied(str(config["file"]), f"{name}.config")}
        return config

    def _copied(self, path: str, name: str) -> str:
        target = str(FILE_ROOT / name)
        self.files[target] = inside(self.loaded.project, path)
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


def rebind(entry: Any, source: str, target: str) -> Any:
    """One entry of a service's volumes with the bind source `source` replaced by `target`; others as they are."""
    if isinstance(entry, str) and entry.split(":", 1)[0] == source:
        return target + entry[len(source) :]
    if isinstance(entry, dict) and entry.get("type") == "bind" and entry.get("source") == source:
        return {**entry, "source": target}
    return entry
