"""What the guest asks the user to allow, by `sandbox-ask` in the guest: requests to a name that only the gateway has.

Nothing is granted here: a rule of the user's does that. The guest is hostile, so how much it can say is bounded, how
often, and in which characters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import parse_qs

from engine.gateway.names import BadName, canonical_name
from engine.gateway.policy import Policy
from engine.gateway.rules import WEB_PORTS
from engine.report.text import clean_line, cut

ASK_HOST = "ask.sandbox.invalid"  # RFC 6761: no such name is in any network
MOST = 16  # that wait for the user at once
BURST, EVERY_S = 8, 10.0  # so many at once, and one more each time
WHY = 200  # characters
_QUERY = 4096


@dataclass(frozen=True)
class GuestAsk:
    """The guest would like to reach this host and port; `why` are its own words. `since` is ISO 8601 in UTC."""

    host: str
    port: int
    why: str
    since: str

    @property
    def name(self) -> str:
        """As `sandbox allow` takes it."""
        return self.host if self.port in WEB_PORTS else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Heard:
    """The answer to the guest; `ask` is what waits for the user now, None where nothing does."""

    status: int
    text: str
    ask: GuestAsk | None = None

    def answer(self) -> bytes:
        """A complete HTTP/1.1 answer that ends the connection."""
        body = f"{self.text}\n".encode()
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        return head.encode("ascii") + body


class GuestAsks:
    """Those of one gateway that wait. `on_change` is called when there are others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._clock = clock
        self._open: dict[tuple[str, int], GuestAsk] = {}
        self._left = float(BURST)
        self._at = clock()

    @property
    def open(self) -> tuple[GuestAsk, ...]:
        """Oldest first."""
        return tuple(self._open.values())

    def hear(self, method: str, target: str, policy: Policy) -> Heard:
        """A request of the guest: POST /?host=HOST&port=PORT&why=TEXT."""
        if not self._may_speak():
            return Heard(429, f"too often: one in {EVERY_S:g} s is heard")
        try:
            host, port, why = _read(method, target)
        except ValueError as error:
            return Heard(400, str(error))
        if (heard := self._known(host, port, policy)) is not None:
            return heard
        if (host, port) not in self._open and len(self._open) >= MOST:
            return Heard(429, f"{MOST} names wait for the user already")
        before = self._open.get((host, port))
        since = before.since if before else datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        ask = GuestAsk(host, port, why, since)
        self._open[host, port] = ask
        self.on_change()
        text = f"The user has been asked for {ask.name}. Until they allow it, it is refused; go on without it."
        return Heard(202, text, ask)

    def outcome(self, ask: GuestAsk, policy: Policy) -> Heard | None:
        """What became of an ask: None while it waits."""
        return self._known(ask.host, ask.port, policy)

    def review(self, policy: Policy) -> None:
        """Another policy is in force: what it speaks of waits no longer."""
        decided = [key for key in self._open if policy.decide(*key).rule is not None]
        for key in decided:
            del self._open[key]
        if decided:
            self.on_change()

    def _known(self, host: str, port: int, policy: Policy) -> Heard | None:
        decision = policy.decide(host, port)
        if decision.rule is None:
            return None
        if decision.allowed:
            return Heard(200, f"{host}:{port} is allowed; some requests may be refused, and then say why")
        return Heard(403, f"{decision.reason}: the user has decided that")

    def _may_speak(self) -> bool:
        now = self._clock()
        self._left = min(BURST, self._left + (now - self._at) / EVERY_S)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _read(method: str, target: str) -> tuple[str, int, str]:
    """Host, port and why. Raises ValueError."""
    path, _, query = target.partition("?")
    if method != "POST" or path != "/" or len(query) > _QUERY:
        raise ValueError(f"an ask is POST /?host=HOST&port=PORT&why=TEXT, of {_QUERY} characters at most")
    given = parse_qs(query, max_num_fields=3)
    name, port, why = (given.get(key, [default])[0] for key, default in (("host", ""), ("port", "443"), ("why", "")))
    try:
        host = canonical_name(name)
    except BadName as error:
        raise ValueError(clean_line(error.brief)) from None
    if "." not in host or host.endswith((".localhost", ".invalid")):
        raise ValueError(f"{host} is no name that can be allowed")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError("the port must be a number from 1 to 65535")
    return host, int(port), cut(clean_line(why).strip(), WHY)
