"""Who a guest is, when it is one of many that came of the same snapshot."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Identity:
    """What a restored guest is told about itself: everything that must differ from the snapshot's other clones.

    `environment` goes to /etc/environment. `files` are (path, mode, text), root's; `seeds` are those of `user`, in
    directories of theirs, and so is the `note` (path, text), which becomes a part of a file that is there already.
    `certificate` (PEM) is that
    of the sandbox's own CA: guest and containers trust it in the place of the snapshot's; None: no such CA.
    """

    hostname: str
    environment: Mapping[str, str] = field(default_factory=dict)
    files: tuple[tuple[str, int, str], ...] = ()
    seeds: tuple[tuple[str, int, str], ...] = ()
    user: str = "agent"
    note: tuple[str, str] | None = None
    certificate: str | None = None

    def refresh(self) -> dict[str, Any]:
        """The arguments for a guest that stays who it was: what would be stale, and of the certificate a new one."""
        certificate = {"certificate": self.certificate} if self.certificate is not None else {}
        return {"entropy": secrets.token_hex(64), "time_ns": time.time_ns(), **certificate}

    def request(self) -> dict[str, Any]:
        """The arguments of guestd's `identity`, with fresh randomness and the host's clock."""
        return {
            "hostname": self.hostname,
            "machine_id": secrets.token_hex(16),
            "entropy": secrets.token_hex(64),
            "time_ns": time.time_ns(),
            "certificate": self.certificate,
            "environment": dict(self.environment),
            "files": [
                *as_files(self.files),
                *as_files(self.seeds, owner=self.user),
                *note_files(self.note, self.user),
            ],
        }


def as_files(files: tuple[tuple[str, int, str], ...], **more: str) -> Iterator[dict[str, Any]]:
    """(path, mode, text) as `identity` of guestd takes them; `more` is what they have in common, such as an owner."""
    return ({"path": path, "mode": mode, "content": text, **more} for path, mode, text in files)


def note_files(note: tuple[str, str] | None, user: str) -> Iterator[dict[str, Any]]:
    """The note of the agent's user as `identity` takes it: one part of a file of which the rest stays as it is."""
    if note is not None:
        path, text = note
        yield {"path": path, "mode": 0o600, "content": text, "owner": user, "part": True}
