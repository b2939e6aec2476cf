"""A Compose project on its way into a guest: a plain value, for processes that know nothing of Sandboxfiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

# Compose looks for its file in the working directory and every directory above it: at the root it is found from
# everywhere in the guest, and a compose.yaml of the user's own always comes first.
FILE = "/compose.yaml"
BUILD_ROOT = PurePosixPath("/var/lib/sandbox/build")
FILE_ROOT = PurePosixPath("/var/lib/sandbox/files")


@dataclass(frozen=True)
class ComposeProject:
    """`text` is the Compose file. `contexts` maps a service to the host's directory that it is built from, `files` a
    path of the guest to the host's file that belongs there. `pulled` are the services whose image comes from a
    registry, `built` those whose image is built; together they are all services.
    """

    name: str
    text: str
    pulled: tuple[str, ...]
    built: tuple[str, ...]
    contexts: Mapping[str, str]
    files: Mapping[str, str]

    @property
    def services(self) -> tuple[str, ...]:
        return tuple(sorted((*self.pulled, *self.built)))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ComposeProject:
        return cls(**{**value, "pulled": tuple(value["pulled"]), "built": tuple(value["built"])})
