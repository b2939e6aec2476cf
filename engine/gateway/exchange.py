"""One HTTP request and its answer between two connections, both in motion at once, read and written anew by h11."""

from __future__ import annotations

import asyncio

import h11

from engine.gateway.body_checks import HeldBody
from engine.gateway.httphead import HOP_BY_HOP, RequestHead
from engine.gateway.journal import JournalLine
from engine.gateway.limits import Limits
from engine.gateway.redaction import Redactor
from engine.gateway.splice import finish, splice
from engine.gateway.upstream import Streams

_LONGEST_ANSWER_HEAD = 64 << 10
# Not for the guest: how its connection ends is ours to say, and other services could not be reached.
_NOT_BACK = HOP_BY_HOP | {b"proxy-authenticate", b"alt-svc"}
# What a trailer must not say (RFC 9110, 6.5.1): a reader may take it for a header.
NOT_TRAILERS = frozenset(
    b"transfer-encoding content-length content-encoding content-type content-range host trailer te connection"
    b" authorization cookie set-cookie location www-authenticate".split()
)


class GuestBroke(Exception):
    """The guest's body is malformed, or it is gone."""


class UpstreamBroke(Exception):
    """The upstream's answer is malformed, or it is gone, or silent for too long."""


def how_it_broke(host: str, error: OSError, limits: Limits) -> str:
    """Why a server's side has ended: a deadline of ours, or what the system says."""
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"{host} said nothing for {limits.idle_s:g} s"
    return f"{host} broke off: {error.strerror or str(error) or type(error).__name__}"


class Exchange:
    """Relays one request. Owns neither connection; counts into the entry.

    `onward` is what goes upstream in the place of `head`; `redactor` sees what comes back. With a `body`, nothing goes
    upstream before `judge_body` has returned.
    """

    def __init__(
        self,
        head: RequestHead,
        onward: h11.Request,
        guest: Streams,
        upstream: Streams,
        entry: JournalLine,
        limits: Limits,
        redactor: Redactor,
        body: HeldBody | None = None,
    ) -> None:
        self._head = head
        self._body = body
        self._onward = onward
        self._redactor = redactor
        self._guest = guest
        self._upstream = upstream
        self._entry = entry
        self._limits = limits
        self._from_guest = head.guest
        self._to_upstream = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_ANSWER_HEAD)
        self.answered = False  # whether the guest has been sent any part of an answer
        self.switched = False  # whether both sides speak WebSocket now

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

    def receive(self, data: bytes) -> None:
        """What came after the head."""
        if data:
            self._from_guest.receive_data(data)

    async def judge_body(self) -> None:
        """Take as much of the body as its checks need, for `held_s`. Raises BodyRefused and GuestBroke.

        A guest that waits for `100 Continue` gets it from us: the server must not hear of the request yet.
        """
        if self._body is None:
            return
        if self._from_guest.they_are_waiting_for_100_continue:
            await self._write_guest(h11.InformationalResponse(status_code=100, headers=[]))
            self.answered = False
        try:
            async with asyncio.timeout(self._limits.held_s):
                while not self._body.open:
                    event = await self._next_from_guest()
                    if isinstance(event, h11.Data):
                        self._body.feed(bytes(event.data))
                    elif isinstance(event, h11.EndOfMessage):
                        self._body.end()
                    else:
                        raise GuestBroke("the guest hung up within a request body")
        except TimeoutError:
            raise GuestBroke(f"what has to be judged did not come within {self._limits.held_s:g} s") from None

    async def run(self) -> None:
        """Relay until the answer is complete, even if the request is not (a server may refuse a body half-way).

        Raises GuestBroke and UpstreamBroke.
        """
        request = asyncio.create_task(self._send_request())
        answer = asyncio.create_task(self._send_answer())
        try:
            await asyncio.wait({request, answer}, return_when=asyncio.FIRST_COMPLETED)
            if request.done():
                request.result()
            await answer
        finally:
            await finish(request, answer)

    async def relay_websocket(self) -> None:
        """After a run that has switched: bytes both ways until the end."""
        early = self._redactor.feed(self._to_upstream.trailing_data[0])
        late = self.surplus
        self._guest[1].write(early)
        self._upstream[1].write(late)
        self._entry.bytes_in += len(early)
        self._entry.bytes_out += len(late)
        await splice(self._guest, self._upstream, self._entry, self._limits, incoming=self._redactor.feed)

    async def _send_request(self) -> None:
        try:
            await self._write_upstream(self._to_upstream.send(self._onward))
            if self._body is not None and await self._send_held(self._body):
                return
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

    async def _send_held(self, body: HeldBody) -> bool:
        """What was held back; True when that is all of the body."""
        if body.data:
            await self._write_upstream(self._to_upstream.send(h11.Data(data=bytes(body.data))))
            body.data.clear()
        if body.ended:
            await self._write_upstream(self._to_upstream.send(h11.EndOfMessage()))
        return body.ended

    async def _send_answer(self) -> None:
        while True:
            event = await self._next_from_upstream()
            if isinstance(event, h11.InformationalResponse | h11.Response):
                await self._write_guest(self._change_head(event))
                if event.status_code == 101:
                    self.switched = True
                    return
            elif isinstance(event, h11.Data):
                if data := self._redactor.feed(bytes(event.data)):
                    await self._write_guest(h11.Data(data=data))
            elif isinstance(event, h11.EndOfMessage):
                if held := self._redactor.finish():
                    await self._write_guest(h11.Data(data=held))
                await self._write_guest(h11.EndOfMessage(headers=self._trailers(event)))
                return
            else:
                raise UpstreamBroke(f"{self._entry.host} hung up before the end of its answer")

    def _change_head(self, event: h11.InformationalResponse | h11.Response) -> h11.Event:
        raw = event.headers.raw_items()
        headers = [(name, self._redactor.clean(value)) for name, value in raw if name.lower() not in _NOT_BACK]
        if event.status_code == 101:
            accepts = [value for name, value in event.headers if name == b"sec-websocket-accept"]
            if self._head.websocket is None or accepts != [self._head.websocket]:
                raise UpstreamBroke(f"{self._entry.host} switched protocols without having understood the request")
            headers += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        return type(event)(status_code=event.status_code, headers=headers, reason=self._redactor.clean(event.reason))

    def _trailers(self, event: h11.EndOfMessage) -> list[tuple[bytes, bytes]]:
        if self._head.version == "1.0":  # it gets no chunks, so there is no place for them
            return []
        raw = event.headers.raw_items()
        return [(name, self._redactor.clean(value)) for name, value in raw if name.lower() not in NOT_TRAILERS]

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
                raise self._malformed(error) from None
            if event is not h11.NEED_DATA:
                return event
            try:
                async with asyncio.timeout(self._limits.idle_s):
                    data = await self._upstream[0].read(self._limits.chunk_bytes)
            except OSError as error:
                raise UpstreamBroke(how_it_broke(self._entry.host or "", error, self._limits)) from error
            try:
                self._to_upstream.receive_data(data)
            except h11.RemoteProtocolError as error:
                raise self._malformed(error) from None

    def _malformed(self, error: h11.ProtocolError) -> UpstreamBroke:
        """h11 quotes what it was sent, which may be a value of ours."""
        text = self._redactor.clean(str(error).encode()).decode()
        return UpstreamBroke(f"malformed answer from {self._entry.host}: {text}")

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
            raise self._malformed(error) from None
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
