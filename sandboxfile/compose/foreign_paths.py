"""Where services name paths of the host, and which of these are paths of Windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sandboxfile.positions import KeyPath
from sandboxfile.windows import split_windows_mount, windows_path


def paths_of_windows(service: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """(path within the service, the value) of each path of Windows. The service may have any shape."""
    for place, value in _paths(service):
        if isinstance(value, str) and windows_path(value):
            yield place, value


def _paths(service: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    build = service.get("build")
    yield ("build",), build
    if isinstance(build, dict):
        yield from ((("build", key), build.get(key)) for key in ("context", "dockerfile"))
        further = build.get("additional_contexts")
        if isinstance(further, dict):
            yield from ((("build", "additional_contexts", name), path) for name, path in further.items())
    for key in ("env_file", "volumes"):
        entries = service.get(key)
        yield (key,), entries
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            for inner in ("path", "source") if isinstance(entry, dict) else ():
                yield (key, index, inner), entry.get(inner)
            if isinstance(entry, str):
                windows = split_windows_mount(entry) if key == "volumes" else None
                yield (key, index), windows[0] if windows else entry if key == "env_file" else None
