"""What a journal tells about each host: how often, how much, what was asked, what was refused and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.gateway.rules import WEB_PORTS

MOST_REQUESTS = 5000  # different ones of one host that are told apart: the guest chooses them
MOST_HOSTS = 5000


@dataclass
class Traffic:
    """Of one host and port. `requests` and `refused_requests` count (method, path); times are those of the journal.

    `blind` connections were allowed, and nobody looked at what was asked on them. `rules` are those that allowed.
    """

    host: str
    port: int
    allowed: int = 0
    failed: int = 0  # allowed, and could not be reached
    refused: int = 0
    blind: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    first: str = ""
    last: str = ""
    last_refused: str = ""
    reason: str = ""  # of the last refusal
    refused_by: str | None = None  # the last rule that refused
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused_requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    is_crowded: bool = False  # there were more different requests
    rules: dict[str, None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.host if self.port in WEB_PORTS else f"{self.host}:{self.port}"

    @property
    def is_needed(self) -> bool:
        """Whether the policy has let anything through."""
        return bool(self.allowed or self.failed)

    def add(self, line: Mapping[str, Any]) -> None:
        time, verdict = str(line.get("time") or ""), line.get("verdict")
        self.first, self.last = self.first or time, time
        method, path = line.get("method"), line.get("path")
        request = (method, path) if isinstance(method, str) and isinstance(path, str) else None
        if verdict == "refused":
            self.refused += 1
            self.last_refused, self.reason = time, str(line.get("reason") or "")
            self.refused_by = _text(line.get("place")) or _text(line.get("rule"))
            self._count(self.refused_requests, request)
            return
        rule = _text(line.get("rule"))
        if rule is None:
            return  # nothing that a policy has decided about
        self.rules[rule] = None
        self.bytes_in += _number(line.get("bytes_in"))
        self.bytes_out += _number(line.get("bytes_out"))
        if verdict == "allowed":
            self.allowed += 1
        else:
            self.failed += 1
        if request is not None:
            self._count(self.requests, request)
        elif line.get("how") == "splice":
            self.blind += 1

    def _count(self, counter: Counter[tuple[str, str]], request: tuple[str, str] | None) -> None:
        if request is None:
            return
        if request not in counter and len(counter) >= MOST_REQUESTS:
            self.is_crowded = True
            return
        counter[request] += 1


_OF_PEOPLE = ("changed", "asked")  # verdicts of lines that are about no connection


def traffic_of(lines: Iterable[Mapping[str, Any]]) -> list[Traffic]:
    """Of each host and port, in the order in which they were first asked for. Lines without a host are left out."""
    found: dict[tuple[str, int], Traffic] = {}
    for line in lines:
        host, port = line.get("host"), line.get("port")
        if not isinstance(host, str) or not isinstance(port, int) or line.get("verdict") in _OF_PEOPLE:
            continue
        if (host, port) not in found and len(found) >= MOST_HOSTS:
            continue
        found.setdefault((host, port), Traffic(host, port)).add(line)
    return list(found.values())


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
