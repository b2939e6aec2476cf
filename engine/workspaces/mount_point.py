"""A live mount, as a sandbox is started with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MountPoint:
    """A live mount: `source`, a real path of the host, is at `target` in the guest.

    `protected` are paths in it that the guest cannot change.
    """

    source: str
    target: str
    read_only: bool
    protected: tuple[str, ...] = ()

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> MountPoint:
        """What `asdict` made a mapping of."""
        return cls(**{**value, "protected": tuple(value["protected"])})
