"""What a sandbox runs with. It is recorded when the sandbox starts, so that a later `up` can see what has changed."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from engine.decoding import decode
from engine.errors import EngineError
from engine.files import read_json, write_json
from engine.state.keys import content_key
from engine.state.layout import Layout

VERSION = 1

# The parts of a sandbox that can be changed while it runs.
Part = Literal["endpoints", "ports", "services", "record"]
# In the order in which they are applied: endpoints before services, whose images are pulled through new endpoints.
PARTS: tuple[Part, ...] = ("endpoints", "ports", "services", "record")


@dataclass(frozen=True)
class Configuration:
    """What one file asks for, resolved on this host: plain data that can be compared and stored.

    `sandbox` is the value of the file, with every short form written out. `mounts` are the real directories behind its
    mounts. `contents` maps a place in the file to the key of the content that services read there. `build` (node -> key
    and inputs) is what the machine is made of, without its services.
    """

    sandbox: Mapping[str, Any]
    mounts: tuple[str, ...]
    contents: Mapping[str, str]
    build: Mapping[str, Mapping[str, Any]]

    def key(self) -> str:
        """The content key of the whole configuration."""
        return content_key(asdict(self))

    def adopt(self, other: Configuration, sections: Collection[str]) -> Configuration:
        """This configuration with the given sections taken from `other`, and for `services` also its contents."""
        taken = {name: value for name, value in other.sandbox.items() if name in sections}
        contents = other.contents if "services" in sections else self.contents
        return replace(self, sandbox={**self.sandbox, **taken}, contents=contents)


@dataclass(frozen=True)
class Running:
    """What is recorded about a running sandbox, besides its Instance.

    `gateway_ports` are the ports on which the machine can reach the gateway, `gateway_names` (NAME:PORT) the names that
    have an address of their own there; they are fixed when it starts. `image` is
    the cache entry of the guest image. `unfinished` are the parts whose last change was begun and not finished. `kinds`
    are the kinds of credentials that secrets counted as when the guest was given their placeholders.
    """

    configuration: Configuration
    gateway_ports: tuple[int, ...]
    image: str
    unfinished: tuple[str, ...] = ()
    gateway_names: tuple[str, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)


def recorded(running: Running) -> dict[str, Any]:
    """The value that `save_running` writes."""
    return {"version": VERSION, **asdict(running)}


def save_running(layout: Layout, name: str, running: Running) -> None:
    """Write the file in one step. Raises EngineError."""
    path = layout.instance(name).configuration
    try:
        write_json(path, recorded(running))
    except OSError as error:
        raise EngineError(f"cannot write {path}: {error.strerror}") from error


def load_running(layout: Layout, name: str) -> Running | None:
    """What `save_running` wrote; None when the file is missing, damaged or of another version.

    Without it nobody knows what the sandbox runs with, so every change needs a new machine.
    """
    with contextlib.suppress(OSError, ValueError):
        value = read_json(layout.instance(name).configuration)
        if isinstance(value, Mapping) and value.get("version") == VERSION:
            return decode(Running, value)
    return None
