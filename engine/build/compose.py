"""The services section as one Compose project in the guest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from engine.build.project import inside
from engine.errors import EngineError
from sandboxfile import Loaded
from sandboxfile.services import bind_mounts, build_contexts

BUILD_ROOT = PurePosixPath("/var/lib/sandbox/build")


@dataclass(frozen=True)
class Compose:
    """The project as the guest sees it.

    `document` is the Compose file; `contexts` the host directory of each built service; `early` can start without the
    live mounts and are in the snapshot, `late` bind-mount one (or depend on such a service) and start in each sandbox.
    """

    document: dict[str, Any]
    contexts: dict[str, Path]
    early: tuple[str, ...]
    late: tuple[str, ...]

    @classmethod
    def of(cls, loaded: Loaded) -> Compose:
        """Raises EngineError (exit code 2) when a service binds a host path that no mount brings into the sandbox."""
        sandbox = loaded.sandbox
        contexts = {name: inside(loaded.project, path) for name, path in build_contexts(sandbox.services).items()}
        services = {name: dict(service or {}) for name, service in sandbox.services.items()}
        bound: set[str] = set()
        for name, source, _ in bind_mounts(sandbox.services):
            guest = guest_path(loaded, source)
            if guest is None:
                problem = loaded.diagnostic(
                    ("services", name, "volumes"),
                    f"binds {source!r}, which no mount brings into the sandbox",
                    "add it to mounts, or use a named volume",
                )
                raise EngineError(str(problem), exit_code=2)
            services[name]["volumes"] = [_rebind(volume, source, guest) for volume in services[name]["volumes"]]
            bound.add(name)
        for name in contexts:
            services[name]["build"] = _rebuild(services[name]["build"], str(BUILD_ROOT / name))
        late = _dependents(services, bound)
        document: dict[str, Any] = {"name": sandbox.name, "services": services}
        for section in ("volumes", "networks", "configs"):
            if value := getattr(sandbox, section):
                document[section] = dict(value)
        early = tuple(name for name in sorted(services) if name not in late)
        return cls(document, contexts, early, tuple(sorted(late)))

    def configuration(self) -> str:
        """The canonical text of the project: JSON is YAML."""
        return json.dumps(self.document, sort_keys=True)

    def image_configuration(self) -> str:
        """The part that decides which images are needed, canonical."""
        keep = ("image", "build", "platform", "pull_policy")
        services = self.document["services"]
        parts = {name: {key: service[key] for key in keep if key in service} for name, service in services.items()}
        return json.dumps(parts, sort_keys=True)


def guest_path(loaded: Loaded, source: str) -> str | None:
    """Where a host path of the project is in the guest, through the first mount that contains it."""
    wanted = (loaded.project / source).resolve()
    for mount in loaded.sandbox.mounts:
        root = (loaded.project / mount.source).resolve()
        if wanted.is_relative_to(root):
            return str(PurePosixPath(mount.target) / wanted.relative_to(root))
    return None


def _rebind(volume: Any, source: str, guest: str) -> Any:
    if isinstance(volume, str) and volume.split(":", 1)[0] == source:
        return guest + volume[len(source) :]
    if isinstance(volume, dict) and volume.get("type") == "bind" and volume.get("source") == source:
        return {**volume, "source": guest}
    return volume


def _rebuild(build: Any, context: str) -> Any:
    return {**build, "context": context} if isinstance(build, dict) else {"context": context}


def _dependents(services: dict[str, dict[str, Any]], roots: set[str]) -> set[str]:
    """`roots` and every service that depends on one of them, directly or not."""
    found = set(roots)
    while more := {
        name for name, service in services.items() if name not in found and found & set(service.get("depends_on") or ())
    }:
        found |= more
    return found
