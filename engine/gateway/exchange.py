"""One HTTP request and its answer between two connections, both in motion at once, read and written anew by h11."""

from __future__ import annotations

import asyncio

import h11

from engine.gateway.httphead import HOP_BY_HOP, RequestHead
from engine.gateway.journal import JournalLine
from engine.gateway.limits import Limits
from engine.gateway.splice import finish
from engine.gateway.upstream import Streams

_LONGEST_ANSWER_HEAD = 64 << 10


class GuestBroke(Exception):
    """The guest's body is malformed, or it is gone."""


class UpstreamBroke(Exception):
    """The upstream's answer is malformed, or it is gone, or silent for too long."""


class Exchange:
    """Relays one request. Owns neither connection; counts into the entry."""

    def __init__(
        self, head: RequestHead, guest: Streams, upstream: Streams, entry: JournalLine, limits: Limits
    ) -> None:
        self._head = head
        self._guest = guest
        self._upstream = upstream
        self._entry = entry
        self._limits = limits
        self._from_guest = head.guest
        self._to_upstream = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_ANSWER_HEAD)
        self.answered = False  # whether the guest has been sent any part of an answer

    @property
    def surplus(self) -> bytes:
        """What the guest sent after this request: the next one."""
        return self._from_guest.trailing_data[0]

    @property
    def guest_reusable(self) -> bool:
        """Whether the guest may send another request on its connection."""
        return self._from_guest.our_state is h11.DONE and self._from_guest.their_state is h11.DONE

    @property
    def upstream_reusable(self) -> bool:
        """Whether the upstream may be sent another request: both halves ended, and nothing came after the answer."""
        states = self._to_upstream.our_state, self._to_upstream.their_state
        return states == (h11.DONE, h11.DONE) and self._to_upstream.trailing_data == (b"", False)

    async def run(self, received: bytes) -> None:
        """Relay until the answer is complete, even if the request is not (a server may refuse a body half-way).

        `received` came after the head. Raises GuestBroke and UpstreamBroke.
        """
        if received:
            self._from_guest.receive_data(received)
        request = asyncio.create_task(self._send_request())
        answer = asyncio.create_task(self._send_answer())
        try:
            await asyncio.wait({request, answer}, return_when=asyncio.FIRST_COMPLETED)
            if request.done():
                request.result()
            await answer
        finally:
            await finish(request, answer)

    async def _send_request(self) -> None:
        try:
            await self._write_upstream(self._to_upstream.send(self._head.onward))
            while True:
                event = await self._next_from_guest()
                if isinstance(event, h11.Data):
                    await self._write_upstream(self._to_upstream.send(h11.Data(data=event.data)))
                elif isinstance(event, h11.EndOfMessage):
                    await self._write_upstream(self._to_upstream.send(h11.EndOfMessage()))
                    return
                else:
                    raise GuestBroke("the guest hung up within a request body")
        except OSError:
            return  # the upstream takes no more; it may still answer, and if not, _send_answer says so

    async def _send_answer(self) -> None:
        while True:
            event = await self._next_from_upstream()
            if isinstance(event, h11.InformationalResponse | h11.Response):
                headers = [(name, value) for name, value in event.headers.raw_items() if name.lower() not in HOP_BY_HOP]
                kind = type(event)
                event = kind(status_code=event.status_code, headers=headers, reason=event.reason)
            elif isinstance(event, h11.EndOfMessage):
                event = h11.EndOfMessage()
            elif not isinstance(event, h11.Data):
                raise UpstreamBroke(f"{self._entry.host} hung up before the end of its answer")
            await self._write_guest(event)
            if isinstance(event, h11.EndOfMessage):
                return

    async def _next_from_guest(self) -> object:
        while True:
            try:
                event = self._from_guest.next_event()
            except h11.RemoteProtocolError as error:
                raise GuestBroke(f"malformed request body: {error}") from error
            if event is not h11.NEED_DATA:
                return event
            try:
                async with asyncio.timeout(self._limits.idle_s):
                    data = await self._guest[0].read(self._limits.chunk_bytes)
            except OSError as error:
                raise GuestBroke("the guest broke off within a request body") from error
            self._from_guest.receive_data(data)

    async def _next_from_upstream(self) -> object:
        while True:
            try:
                event = self._to_upstream.next_event()
            except h11.RemoteProtocolError as error:
                raise UpstreamBroke(f"malformed answer from {self._entry.host}: {error}") from error
            if event is not h11.NEED_DATA:
                return event
            try:
                async with asyncio.timeout(self._limits.idle_s):
                    data = await self._upstream[0].read(self._limits.chunk_bytes)
            except OSError as error:
                raise UpstreamBroke(f"{self._entry.host} broke off: {error or 'silent for too long'}") from error
            self._to_upstream.receive_data(data)

    async def _write_upstream(self, data: bytes | None) -> None:
        if data:
            self._upstream[1].write(data)
            self._entry.bytes_out += len(data)
            async with asyncio.timeout(self._limits.idle_s):
                await self._upstream[1].drain()

    async def _write_guest(self, event: h11.Event) -> None:
        try:
            data = self._from_guest.send(event)
        except h11.LocalProtocolError as error:
            # An answer that cannot be passed on, such as a body longer than it said.
            raise UpstreamBroke(f"malformed answer from {self._entry.host}: {error}") from error
        if not data:
            return
        self.answered = True
        try:
            self._guest[1].write(data)
            self._entry.bytes_in += len(data)
            async with asyncio.timeout(self._limits.idle_s):
                await self._guest[1].drain()
        except OSError as error:
            raise GuestBroke("the guest hung up within the answer") from error
