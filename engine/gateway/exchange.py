"""One HTTP request and its answer between two connections, both in motion at once, read and written anew by h11."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import h11

from engine.gateway.answers import AnswerRefused
from engine.gateway.body_checks import HeldBody
from engine.gateway.httphead import HOP_BY_HOP, RequestHead
from engine.gateway.journal import JournalLine
from engine.gateway.limits import Limits
from engine.gateway.requests import Approved
from engine.gateway.splice import finish, splice
from engine.gateway.upstream import Streams
from engine.gateway.websocket import Frames
from engine.gateway.whole import LONGEST_ANSWER, Mask

_LONGEST_ANSWER_HEAD = 64 << 10
_AT_ONCE = 256  # events of one side before the others have their turn: a buffer may hold many thousand small ones
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


def how_it_broke(host: str, error: OSError, patience_s: float) -> str:
    """Why a server's side has ended: a deadline of ours, or what the system says."""
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"{host} said nothing for {patience_s:g} s"
    return f"{host} broke off: {error.strerror or str(error) or type(error).__name__}"


class Exchange:
    """Relays one request. Owns neither connection; counts into the entry.

    `onward` is what goes upstream in the place of `head`; `approved` sees what is in the bodies. `collected` is the
    request's body where it was taken as a whole. With a body to be judged, nothing goes upstream before `judge_body`
    has returned.
    """

    def __init__(
        self,
        head: RequestHead,
        onward: h11.Request,
        guest: Streams,
        upstream: Streams,
        entry: JournalLine,
        limits: Limits,
        approved: Approved,
        collected: bytes | None = None,
    ) -> None:
        self._head = head
        self._onward = onward
        self._incoming = approved.incoming
        self._outgoing = approved.outgoing
        self._mask = approved.whole.mask if approved.whole is not None else None
        self._body = approved.body
        self._collected = collected
        self._guest = guest
        self._upstream = upstream
        self._entry = entry
        self._limits = limits
        self._from_guest = head.guest
        self._to_upstream = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_ANSWER_HEAD)
        self._patience_s = limits.idle_s  # for the answer to go on
        self._silence: asyncio.Timeout | None = None  # of the upstream, while it is waited for
        self._events = 0
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

        Raises GuestBroke, UpstreamBroke, AnswerRefused and CredentialRefused, for a body that carries a stranger's
        placeholder.
        """
        request = asyncio.create_task(self._send_request())
        answer = asyncio.create_task(self._send_answer())
        guest = asyncio.create_task(self._watch_guest(request))
        running = {request, answer, guest}
        try:
            while answer in running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in (request, answer) if answer in done else (request, guest):
                    if task in done:
                        task.result()
        finally:
            await finish(request, answer, guest)

    async def _watch_guest(self, request: asyncio.Task[None]) -> None:
        """See, once the request is sent, whether the guest is still there: one that has gone must not hold a connection
        for as long as a server may think. Raises GuestBroke for one that broke off.

        One that has said that it is done may still read (`half_closed_s` for each part of the answer). What it sends is
        its next request: then it is there, and is looked at no more.
        """
        await asyncio.wait({request})
        if self._from_guest.their_state is h11.SEND_BODY or self.surplus:
            return
        try:
            data = await self._guest[0].read(self._limits.chunk_bytes)
        except OSError as error:
            raise GuestBroke("the guest broke off before the answer was complete") from error
        if data:
            self._from_guest.receive_data(data)
            return
        self._patience_s = min(self._limits.half_closed_s, self._patience_s)
        if self._silence is not None:
            self._silence.reschedule(asyncio.get_running_loop().time() + self._patience_s)

    async def relay_websocket(self) -> None:
        """After a run that has switched: bytes both ways until the end."""
        frames = Frames(self._incoming)
        early = frames.feed(self._to_upstream.trailing_data[0])
        late = self.surplus
        self._guest[1].write(early)
        self._upstream[1].write(late)
        self._entry.bytes_in += len(early)
        self._entry.bytes_out += len(late)
        await splice(self._guest, self._upstream, self._entry, self._limits, incoming=frames.feed)

    async def _send_request(self) -> None:
        try:
            await self._write_upstream(self._to_upstream.send(self._onward))
            if self._collected is not None:
                if self._collected:
                    await self._write_upstream(self._to_upstream.send(h11.Data(data=self._collected)))
                await self._write_upstream(self._to_upstream.send(h11.EndOfMessage()))
                return
            if self._body is not None and await self._send_held(self._body):
                return
            while True:
                event = await self._next_from_guest()
                if isinstance(event, h11.Data):
                    self._outgoing.look(bytes(event.data))
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
            self._outgoing.look(bytes(body.data))
            await self._write_upstream(self._to_upstream.send(h11.Data(data=bytes(body.data))))
            body.data.clear()
        if body.ended:
            await self._write_upstream(self._to_upstream.send(h11.EndOfMessage()))
        return body.ended

    async def _send_answer(self) -> None:
        while True:
            event = await self._next_from_upstream()
            if self._mask is not None and isinstance(event, h11.Response):
                await self._send_masked(event, self._mask)
                return
            if isinstance(event, h11.InformationalResponse | h11.Response):
                await self._write_guest(self._change_head(event))
                if event.status_code == 101:
                    self.switched = True
                    return
            elif isinstance(event, h11.Data):
                if data := self._incoming.feed(bytes(event.data)):
                    await self._write_guest(h11.Data(data=data))
            elif isinstance(event, h11.EndOfMessage):
                if held := self._incoming.finish():
                    await self._write_guest(h11.Data(data=held))
                await self._write_guest(h11.EndOfMessage(headers=self._trailers(event)))
                return
            else:
                raise UpstreamBroke(f"{self._entry.host} hung up before the end of its answer")

    async def _send_masked(self, response: h11.Response, mask: Mask) -> None:
        """An answer that goes on as a whole, or not at all."""
        body = bytearray()
        while not isinstance(event := await self._next_from_upstream(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise AnswerRefused(f"{self._entry.host} hung up before the end of an answer that has to be masked")
            body += event.data
            if len(body) > LONGEST_ANSWER:
                raise AnswerRefused(f"the answer of {self._entry.host} is too long to be masked")
        masked = await mask(response.status_code, list(response.headers), bytes(body))
        headers = [*masked.headers, (b"content-length", b"%d" % len(masked.body))]
        await self._write_guest(h11.Response(status_code=response.status_code, headers=headers))
        if masked.body:
            await self._write_guest(h11.Data(data=masked.body))
        await self._write_guest(h11.EndOfMessage())

    def _change_head(self, event: h11.InformationalResponse | h11.Response) -> h11.Event:
        raw = event.headers.raw_items()
        if isinstance(event, h11.Response):
            self._incoming.begin(event.status_code, raw, bodiless=self._head.method == "HEAD")
        headers = self._cleaned(raw, _NOT_BACK)
        if event.status_code == 101:
            accepts = [value for name, value in event.headers if name == b"sec-websocket-accept"]
            if self._head.websocket is None or accepts != [self._head.websocket]:
                raise UpstreamBroke(f"{self._entry.host} switched protocols without having understood the request")
            if self._incoming and any(name == b"sec-websocket-extensions" for name, _ in event.headers):
                raise AnswerRefused(f"{self._entry.host} speaks WebSocket with extensions that nobody asked for")
            headers += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        return type(event)(status_code=event.status_code, headers=headers, reason=self._incoming.clean(event.reason))

    def _cleaned(self, raw: Iterable[tuple[bytes, bytes]], banned: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
        clean = self._incoming.clean
        return [(clean(name), clean(value)) for name, value in raw if name.lower() not in banned]

    def _trailers(self, event: h11.EndOfMessage) -> list[tuple[bytes, bytes]]:
        if self._head.version == "1.0":  # it gets no chunks, so there is no place for them
            return []
        raw = event.headers.raw_items()
        return self._cleaned(raw, NOT_TRAILERS)

    async def _next_from_guest(self) -> object:
        while True:
            try:
                event = self._from_guest.next_event()
            except h11.RemoteProtocolError as error:
                raise GuestBroke(f"malformed request body: {error}") from error
            if event is not h11.NEED_DATA:
                await self._let_others()
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
                await self._let_others()
                return event
            try:
                async with asyncio.timeout(self._patience_s) as self._silence:
                    data = await self._upstream[0].read(self._limits.chunk_bytes)
            except OSError as error:
                raise UpstreamBroke(how_it_broke(self._entry.host or "", error, self._patience_s)) from error
            finally:
                self._silence = None
            try:
                self._to_upstream.receive_data(data)
            except h11.RemoteProtocolError as error:
                raise self._malformed(error) from None

    async def _let_others(self) -> None:
        """Neither a read from a full buffer nor a write into an empty one lets anybody else have a turn."""
        self._events += 1
        if not self._events % _AT_ONCE:
            await asyncio.sleep(0)

    def _malformed(self, error: h11.ProtocolError) -> UpstreamBroke:
        """h11 quotes what it was sent, which may be a value of ours."""
        text = self._incoming.clean(str(error).encode()).decode()
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
