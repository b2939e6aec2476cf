"""git LFS has one address for reading and writing: the body of a batch request says which (its `operation`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from engine.gateway.body_checks import BodyRefused

_DOWNLOAD = "download"


@dataclass(frozen=True)
class LfsDownloads:
    """A check of bodies: batch requests that download. Servers may read keys in any case, or the last of two."""

    def inspector(self) -> BatchInspector:
        return BatchInspector()


class BatchInspector:
    """Needs all of a body, which is short: clients ask for a hundred objects at once."""

    def __init__(self) -> None:
        self.accepted = False
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        self._body += data

    def end(self) -> None:
        try:
            value = json.loads(self._body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise BodyRefused("a batch request of LFS that can be read in two ways") from None
        if not isinstance(value, dict) or value.get("operation") != _DOWNLOAD:
            raise BodyRefused("an upload to LFS, which no access allows")
        self.accepted = True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key.casefold() for key, _ in pairs}) < len(pairs):
        raise ValueError("a key twice")
    found = dict(pairs)
    if "operation" not in found and any(key.casefold() == "operation" for key in found):
        raise ValueError("a key in another case")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
