"""What a sandbox runs with, written down when it starts, so that a later `up` can tell what has changed since."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from engine.decoding import decode
from engine.errors import EngineError
from engine.files import read_json, write_json
from engine.state.keys import content_key
from engine.state.layout import Layout

VERSION = 1

# What of a running sandbox can be changed while it runs.
Part = Literal["endpoints", "ports", "services", "record"]
PARTS: tuple[Part, ...] = ("endpoints", "ports", "services", "record")  # as they are applied: images come by endpoints


@dataclass(frozen=True)
class Configuration:
    """One file's wishes, resolved: plain data that can be compared and kept.

    `sandbox` is the file's value, long forms throughout; `mounts` the real directories behind its mounts; `contents`
    the keys of what services read of the project, by the place that names it; `build` (node -> key and inputs) what
    the machine before its services is made of.
    """

    sandbox: Mapping[str, Any]
    mounts: tuple[str, ...]
    contents: Mapping[str, str]
    build: Mapping[str, Mapping[str, Any]]

    def key(self) -> str:
        return content_key(asdict(self))

    def adopt(self, other: Configuration, sections: Collection[str]) -> Configuration:
        """With these sections of `other`'s value, and with what its services read if they are among them."""
        taken = {name: value for name, value in other.sandbox.items() if name in sections}
        contents = other.contents if "services" in sections else self.contents
        return replace(self, sandbox={**self.sandbox, **taken}, contents=contents)


@dataclass(frozen=True)
class Running:
    """What is known of a running sandbox beside its record.

    `gateway_ports` are the ports on which its machine can reach the gateway, fixed when it starts; `image` the cache
    entry of its guest image; `unfinished` the parts whose last change was begun and did not come to its end.
    """

    configuration: Configuration
    gateway_ports: tuple[int, ...]
    image: str
    unfinished: tuple[str, ...] = ()


def save_running(layout: Layout, name: str, running: Running) -> None:
    """Write it in one step. Raises EngineError."""
    path = layout.instance(name).configuration
    try:
        write_json(path, {"version": VERSION, **asdict(running)})
    except OSError as error:
        raise EngineError(f"cannot write {path}: {error.strerror}") from error


def load_running(layout: Layout, name: str) -> Running | None:
    """None when nothing is known: the file is missing, damaged or another version's. Only a new machine helps then."""
    with contextlib.suppress(OSError, ValueError):
        value = read_json(layout.instance(name).configuration)
        if isinstance(value, Mapping) and value.get("version") == VERSION:
            return decode(Running, value)
    return None
