"""A Compose project on its way into a guest: a plain value, for processes that know nothing of Sandboxfiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from engine.project.pieces import Piece

# Compose looks for its file in the working directory and every directory above it: at the root it is found from
# everywhere in the guest, and a compose.yaml of the user's own always comes first.
FILE = "/compose.yaml"
BUILD_ROOT = PurePosixPath("/var/lib/sandbox/build")
FILE_ROOT = PurePosixPath("/var/lib/sandbox/files")


@dataclass(frozen=True)
class ComposeProject:
    """`text` is the Compose file. `contexts` are the pieces that each service is built from, `files` those that
    services are configured with. `pulled` are the services whose image comes from a registry, `built` those whose image
    is built; together they are all services.

    The pieces are of the directory `root` with the `identity` (device, inode), which another process opens anew.
    """

    name: str
    text: str
    pulled: tuple[str, ...]
    built: tuple[str, ...]
    contexts: Mapping[str, tuple[Piece, ...]]
    files: tuple[Piece, ...]
    root: str
    identity: tuple[int, int]

    @property
    def services(self) -> tuple[str, ...]:
        return tuple(sorted((*self.pulled, *self.built)))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
