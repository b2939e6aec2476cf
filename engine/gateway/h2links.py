"""The connections to the server that one HTTP/2 connection of the guest is relayed to.

There is one current connection, to which new streams go, and there are older ones that drain (GOAWAY). The end of a
connection ends the streams on it, and the guest's connection goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import h2.exceptions

from engine.gateway.context import Context
from engine.gateway.errors import GatewayError
from engine.gateway.exchange import how_it_broke
from engine.gateway.h2room import Share
from engine.gateway.h2side import Side
from engine.gateway.journal import JournalLine
from engine.gateway.policy import Decision
from engine.gateway.splice import close, finish
from engine.gateway.tlsio import TlsStream
from engine.gateway.upstream import UpstreamUnreachable
from vmm.connection import drop

Dial = Callable[[JournalLine, Decision], Awaitable[TlsStream]]


class Links:
    """`first` is the connection that was made before the guest's hello was answered; without one, `failure` says why.

    `read` serves what comes on a connection until its end. `fail` hears of each stream of the guest that was on a
    connection when it ended, and why it did. `share` is what all of them may have of the gateway's room.
    """

    def __init__(
        self,
        context: Context,
        host: str,
        first: TlsStream | None,
        failure: GatewayError | None,
        dial: Dial,
        read: Callable[[Side], Awaitable[None]],
        fail: Callable[[int, str], None],
        share: Share,
    ) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._context = context
        self._host = host
        self._share = share
        self._current = Side(first, client=True, share=share) if first else None
        self._failure = failure
        self._dial = dial
        self._read = read
        self._fail = fail
        self._dialling = asyncio.Lock()
        self._failures = 0
        self._last_failure: UpstreamUnreachable | None = None
        self._open: set[Side] = set()

    def start(self) -> None:
        """Begin to serve the first connection."""
        if self._current is not None:
            self._attach(self._current)

    @property
    def ready(self) -> Side | None:
        """The connection that new streams go to, if there is one; None: `reach` makes one."""
        usable = self._current is not None and not self._current.draining and not self._dialling.locked()
        return self._current if usable else None

    async def reach(self, entry: JournalLine, decision: Decision) -> Side:
        """The connection that new streams go to. Raises Refused and UpstreamUnreachable.

        Waits for one attempt to make it, at most: whoever has waited for one that failed shares its failure.
        """
        before = self._failures
        async with self._dialling:
            if self._current is not None and not self._current.draining:
                return self._current
            if self._failures != before and (last := self._last_failure) is not None:
                shared = UpstreamUnreachable(last.brief, last.details)
                self._context.note_failure(entry, shared)
                raise shared
            try:
                return await self._connect(entry, decision)
            except UpstreamUnreachable as error:
                self._failures += 1
                self._last_failure = error
                raise

    async def _connect(self, entry: JournalLine, decision: Decision) -> Side:
        failure, self._failure = self._failure, None
        if failure is not None:
            if isinstance(failure, UpstreamUnreachable):
                self._context.note_failure(entry, failure)
            raise failure
        tls = await self._dial(entry, decision)
        if tls.alpn != "h2":
            await close(tls.streams, self._context.limits)
            error = UpstreamUnreachable(f"{self._host} speaks no HTTP/2 any more")
            self._context.note_failure(entry, error)
            raise error
        self._current = Side(tls, client=True, share=self._share)
        self._attach(self._current)
        return self._current

    def drop_all(self) -> None:
        """Close at once what is still open: a task that was cancelled before its first step, or twice, has not."""
        for side in self._open:
            drop(side.tls.streams[1])

    def _attach(self, side: Side) -> None:
        self._open.add(side)
        task = asyncio.ensure_future(self._serve(side))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, side: Side) -> None:
        """The life of one connection."""
        reading = asyncio.ensure_future(self._read(side))
        sending = asyncio.create_task(side.send())
        drained = asyncio.create_task(side.until_drained())
        reason = f"{self._host} hung up before the end of its answer"
        try:
            done, _ = await asyncio.wait({reading, sending, drained}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if isinstance(error := task.exception(), OSError):
                    reason = how_it_broke(self._host, error, self._context.limits.idle_s)
                elif isinstance(error, h2.exceptions.ProtocolError):
                    reason = f"malformed answer from {self._host}"
                elif error is not None:
                    raise error
        finally:
            side.draining = True
            await finish(reading, sending, drained)
            side.say_goodbye()
            for _, number in list(side.partner.values()):
                self._fail(number, reason)
            side.partner.clear()
            side.windows.end()
            await close(side.tls.streams, self._context.limits)
            self._open.discard(side)
