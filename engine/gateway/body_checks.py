"""Requests whose path and method do not say enough: the beginning of the body is held back until it has been judged.

A rule names a check. What it needs of the body stays here, within a bound, and nothing of the request, not even its
head, goes upstream before the check has said yes. The rest of the body then passes as it comes. Every version of HTTP
does this by the same `HeldBody`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from engine.gateway.errors import GatewayError

MOST_HELD = 256 << 10  # bytes; less than the window of an HTTP/2 stream, so that its end always comes


Reply = Callable[[str], tuple[str, bytes] | None]
"""A refusal's text in the words of a protocol: media type and body; None where the client would not understand it."""


class BodyRefused(GatewayError):
    """The body asks for something that no rule allows. `hint` says which edit would."""

    def __init__(self, brief: str, *, hint: str | None = None, reply: Reply | None = None) -> None:
        super().__init__(brief, hint=hint)
        self.reply = reply


class Inspector(Protocol):
    """Reads one body. `accepted` once it has seen enough of it."""

    accepted: bool

    def feed(self, data: bytes) -> None:
        """Raises BodyRefused."""

    def end(self) -> None:
        """The body has no more. Raises BodyRefused where it is not accepted by then."""


class BodyCheck(Protocol):
    """What a rule says about bodies."""

    def inspector(self) -> Inspector: ...


class HeldBody:
    """The body of one request. `data` is what to send first once it is `open`."""

    def __init__(self, checks: Iterable[BodyCheck], headers: Sequence[tuple[bytes, bytes]]) -> None:
        """It is open as soon as one of the checks accepts it. Raises BodyRefused for a body that cannot be read."""
        if any(name.lower() == b"content-encoding" and value.strip().lower() != b"identity" for name, value in headers):
            raise BodyRefused(
                "the rule for this request has to read its body, which is compressed", hint="send it as it is"
            )
        self._inspectors = [check.inspector() for check in checks]
        self.data = bytearray()
        self.open = False
        self.ended = False

    def feed(self, data: bytes) -> None:
        """More of the body, in pieces of any size. Raises BodyRefused."""
        self.data += data
        if len(self.data) > MOST_HELD and not self.open:
            # What is judged must be in the first bytes; only those are given to the inspectors.
            data = data[: max(0, MOST_HELD - (len(self.data) - len(data)))]
        self._ask([(inspector, data) for inspector in self._inspectors])
        if len(self.data) > MOST_HELD and not self.open:
            raise BodyRefused(f"what has to be judged is not within the first {MOST_HELD >> 10} KiB of the body")

    def end(self) -> None:
        """The body is complete. Raises BodyRefused."""
        self.ended = True
        if not self.open:
            self._ask([(inspector, None) for inspector in self._inspectors])

    def _ask(self, steps: Sequence[tuple[Inspector, bytes | None]]) -> None:
        refusals = []
        for inspector, data in steps:
            try:
                inspector.end() if data is None else inspector.feed(data)
            except BodyRefused as error:
                refusals.append(error)
                with suppress(ValueError):
                    self._inspectors.remove(inspector)
        self.open = self.open or any(inspector.accepted for inspector in self._inspectors)
        if not self._inspectors:
            raise refusals[0]
