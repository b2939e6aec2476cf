"""Requests that have to be seen as a whole before they go on, and answers before they come back. HTTP/1.1 only.

Each has a bound, and so have all of one gateway together: what a guest sends is held in the memory of its supervisor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import h11

from engine.gateway.httphead import BadRequest
from engine.gateway.injection import Headers
from engine.gateway.limits import Limits
from engine.gateway.upstream import Streams

LONGEST_ANSWER = 256 << 10  # of one that has to be masked
ANSWER_S = 60.0  # for all of such an exchange: others wait to renew the same login
_MOST_HELD = 64 << 20  # bytes, of all requests of one gateway


@dataclass(frozen=True)
class Masked:
    """An answer for the guest, and the tokens (secret -> value) that were in it."""

    headers: Headers
    body: bytes
    taken: Mapping[str, str] = field(repr=False)


Mask = Callable[[int, Headers, bytes], Awaitable[Masked]]
"""Makes of an answer's status, headers and body what the guest gets; raises AnswerRefused."""


@dataclass(frozen=True)
class Onward:
    """A request as it is sent on. It has values of secrets."""

    target: str = field(repr=False)
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Whole:
    """What happens to a request: `change` makes of its body what is sent, `mask` of the answer what the guest gets.

    `longest` is how long the body may be. `turn` is held from the change to the end of the answer.
    """

    longest: int
    change: Callable[[bytes], Onward]
    mask: Mask | None = None
    turn: AbstractAsyncContextManager[object] = field(default_factory=nullcontext)


class Held:
    """How much of requests is held now."""

    def __init__(self, most: int = _MOST_HELD) -> None:
        self._left = most

    @contextmanager
    def room(self) -> Iterator[Callable[[int], None]]:
        """Gives what takes so many bytes more, and gives them back at the end. It raises BadRequest for too many."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self._left:
                raise BadRequest("too much is waiting to be sent on already", 503)
            self._left -= size
            taken += size

        try:
            yield take
        finally:
            self._left += taken


async def collect(
    parser: h11.Connection, guest: Streams, received: bytes, longest: int, take: Callable[[int], None], limits: Limits
) -> bytes:
    """The whole body of the request whose head `parser` has read. Waits `half_closed_s` for each piece of it.

    Raises BadRequest for one that is too long, malformed, or does not come.
    """
    body = bytearray()
    if received:
        parser.receive_data(received)
    while True:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            raise BadRequest(f"malformed request body: {error}") from error
        if isinstance(event, h11.EndOfMessage):
            return bytes(body)
        if isinstance(event, h11.Data):
            if len(body) + len(event.data) > longest:
                raise BadRequest(f"a body of more than {longest} bytes cannot be looked into", 413)
            take(len(event.data))
            body += event.data
            continue
        if event is not h11.NEED_DATA:
            raise BadRequest("the guest hung up within a request body")
        try:
            async with asyncio.timeout(limits.half_closed_s):
                if parser.they_are_waiting_for_100_continue:
                    guest[1].write(parser.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
                    await guest[1].drain()
                data = await guest[0].read(limits.chunk_bytes)
        except OSError:
            raise BadRequest("the guest broke off within a request body", 408) from None
        parser.receive_data(data)


def with_length(headers: Headers, body: bytes, method: str) -> Headers:
    """The headers of a request with this body, in one piece."""
    framing = (b"content-length", b"transfer-encoding", b"expect")
    kept = [(name, value) for name, value in headers if name.lower() not in framing]
    if body or method not in ("GET", "HEAD", "DELETE", "OPTIONS", "TRACE"):
        kept.append((b"content-length", b"%d" % len(body)))
    return kept
