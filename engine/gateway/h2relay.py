"""HTTP/2 to HTTP/2: every stream of an intercepted connection is judged by itself, flow control goes from end to end.

One connection of the guest has one current connection to the server, and older ones that drain (GOAWAY) or are gone:
the end of one ends its streams, not the guest's connection. What a side has sent is acknowledged only when the other
side's socket has taken it: a stream holds at most its window in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import h2.events
import h2.exceptions
from hpack import NeverIndexedHeaderTuple

from engine.gateway.answers import AnswerRefused
from engine.gateway.context import Context, Refused
from engine.gateway.errors import GatewayError
from engine.gateway.exchange import NOT_TRAILERS
from engine.gateway.h2head import read_head
from engine.gateway.h2held import BodyEvent
from engine.gateway.h2links import Dial, Links
from engine.gateway.h2resets import Resets
from engine.gateway.h2side import Code, Side
from engine.gateway.h2streams import Headers, Stream, Streams
from engine.gateway.h2windows import GONE
from engine.gateway.httphead import BadRequest
from engine.gateway.injection import CredentialRefused
from engine.gateway.journal import JournalLine
from engine.gateway.refusal import Refusal
from engine.gateway.requests import Approved, approve
from engine.gateway.splice import finish
from engine.gateway.tlsio import TlsStream
from engine.gateway.upstream import UpstreamUnreachable

_MOST_UNREAD = 1 << 20  # bytes of heads that a server has not taken: no window stops those


class Relay:
    """One connection of the guest. Owns the connections to the server, not the guest's."""

    def __init__(
        self,
        context: Context,
        guest: TlsStream,
        first: JournalLine,
        upstream: TlsStream | None,
        failure: GatewayError | None,
        dial: Dial,
    ) -> None:
        self._context = context
        self._host, self._port = first.host or "", first.port
        self._first: JournalLine | None = first
        self._share = context.room.share()
        self._guest = Side(guest, client=False, share=self._share)
        self._streams = Streams(context, self._guest, self._host, self._port)
        self._links = Links(
            context, self._host, upstream, failure, dial, self._read_upstream, self._streams.fail, self._share
        )
        self._resets = Resets()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Serve until the guest's connection ends or nothing moves for `idle_s`."""
        reading = self._spawn(self._read_guest())
        sending = self._spawn(self._guest.send())
        self._links.start()
        reason = "cut off"
        try:
            done, _ = await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
            reason = "the guest hung up"
            for task in done:
                try:
                    task.result()
                except h2.exceptions.ProtocolError:
                    reason = "what the guest sent is no HTTP/2"
                except OSError:
                    reason = "the guest broke off"
        finally:
            self._streams.abandon(reason)
            try:
                while rest := [*self._tasks, *self._links.tasks]:  # one that ends may have begun another
                    await finish(*rest)
            finally:
                self._guest.windows.end()
                self._share.end()
                self._guest.say_goodbye()
                self._links.drop_all()

    def _spawn(self, coroutine: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _start(self, side: Side, stream: Stream, onward: Headers) -> None:
        """Raises ProtocolError when the server takes no more streams now, or does not read."""
        if len(side.out) > _MOST_UNREAD:
            raise h2.exceptions.ProtocolError("too much waits to be sent")
        number = side.h2.get_next_available_stream_id()
        side.h2.send_headers(number, onward, end_stream=stream.asked)  # at once: numbers must go out in their order
        self._guest.partner[stream.number] = side, number
        side.partner[number] = self._guest, stream.number
        stream.resend = onward if stream.asked and not stream.again else None
        stream.entry.bytes_out += sum(len(name) + len(value) for name, value in onward)
        side.collect()
        side.wake.set()

    # Reading

    async def _read_guest(self) -> None:
        limits = self._context.limits
        await self._guest.read(limits, self._from_guest, self._goaway, may_be_silent=lambda: bool(self._streams.open))

    async def _read_upstream(self, side: Side) -> None:
        await side.read(self._context.limits, self._from_upstream, self._goaway)

    def _goaway(self, side: Side, frame: bytes) -> None:
        if not side.client:
            return  # the guest opens no more streams; those that are open go on
        side.draining = True
        last = int.from_bytes(frame[9:13], "big") & 0x7FFFFFFF
        for number, (_, ours) in list(side.partner.items()):
            if number <= last:
                continue
            # Never looked at by the server, so it may be sent again: by us where there is no body.
            self._streams.part(ours)
            stream = self._streams.open.get(ours)
            if stream is not None and stream.resend is not None:
                self._spawn(self._send_again(stream, stream.resend))
            else:
                self._streams.end(ours, Code.REFUSED_STREAM, f"{self._host} did not take the request")

    async def _send_again(self, stream: Stream, onward: Headers) -> None:
        decision = self._context.policy.decide(self._host, self._port)
        stream.again = True  # a server may send away whatever comes, on each of its connections
        side = failure = None
        try:
            side = await self._links.reach(stream.entry, decision)
        except (Refused, UpstreamUnreachable) as error:
            failure = error.brief
        if self._streams.open.get(stream.number) is not stream:
            return  # it has ended meanwhile: the guest or a new policy wants it sent nowhere
        if side is None:
            self._streams.fail(stream.number, failure or "")
            return
        try:
            self._start(side, stream, onward)
        except GONE:
            self._streams.end(stream.number, Code.REFUSED_STREAM, f"{self._host} takes no more requests")

    async def _from_guest(self, side: Side, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self._request(event)
        elif isinstance(event, BodyEvent) and event.stream_id in self._streams.held:
            await self._judge_body(event)
        elif isinstance(event, h2.events.TrailersReceived):
            self._trailers(event)
        elif isinstance(event, h2.events.StreamReset):
            if self._resets.too_many():
                raise h2.exceptions.ProtocolError("too many resets")
            self._streams.running_off.pop(event.stream_id, None)
            side.drop(event.stream_id)
            self._streams.part(event.stream_id, event.error_code)
            self._streams.forget(event.stream_id, "the guest cancelled it")
        else:
            self._common(side, event)

    async def _from_upstream(self, side: Side, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.StreamReset):
            other = side.partner.get(event.stream_id)
            side.drop(event.stream_id)
            if other is not None:
                self._streams.part(other[1])
                self._streams.server_reset(other[1], event.error_code or 0)
        elif isinstance(
            event,
            h2.events.ResponseReceived | h2.events.InformationalResponseReceived | h2.events.TrailersReceived,
        ):
            self._answer(side, event)
        else:
            self._common(side, event)

    def _common(self, side: Side, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.DataReceived):
            self._data(side, event)
        elif isinstance(event, h2.events.WindowUpdated):
            side.open_again(event.stream_id)
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            side.open_again(None)

    # Requests

    def _request(self, event: h2.events.RequestReceived) -> None:
        number, ended = event.stream_id, event.stream_ended is not None
        entry, self._first = self._first, None
        if entry is None:
            entry = JournalLine(port=self._port, protocol="tls", how="intercept", host=self._host)
        head = None
        try:
            head = read_head(event.headers, self._port, self._host, ended=ended)
            entry.method, entry.target, entry.path = head.method, head.target, head.target.partition("?")[0]
            if self._context.policy.needs_bodies(self._host, self._port):
                self._send_to_http_1(number, entry)  # since a new policy: no such connection is HTTP/2 from its start
                return
            approved = approve(self._context, entry, head.headers, head.overrides, inside_tls=True)
            held = self._streams.held.hold(number, approved, head.headers, ended=ended)
        except BadRequest as error:
            self._streams.refuse(number, entry, Refusal(error.status, error.brief), head, ended)
            return
        except Refused as error:
            self._streams.refuse(number, entry, self._streams.refusal(error), head, ended)
            return
        stream = Stream(self._streams, number, head, entry, approved.incoming, approved.outgoing, ended)
        self._streams.open[number] = stream
        self._context.live[entry] = stream
        if held:
            return
        if (side := self._links.ready) is not None:
            self._go_on(stream, side, approved)
        else:
            stream.early = []
            self._spawn(self._reach(stream, approved))

    def _send_to_http_1(self, number: int, entry: JournalLine) -> None:
        entry.verdict, entry.how = "refused", "refuse"
        entry.reason = "the body has to be seen as a whole, for which HTTP/1.1 alone is spoken"
        self._context.write(entry)
        self._guest.reset(number, Code.HTTP_1_1_REQUIRED)

    async def _judge_body(self, event: BodyEvent) -> None:
        """More of a body that is held back. Once it may go on, the request does."""
        number, ended = event.stream_id, event.stream_ended is not None
        stream = self._streams.open[number]
        try:
            approved = self._streams.held.take(event)
            if approved is None:
                return
            side = await self._links.reach(stream.entry, approved.decision)
        except (Refused, UpstreamUnreachable) as error:
            failed = Refusal(502, stream.entry.reason, self._host, self._port)
            self._streams.refuse_held(
                number, self._streams.refusal(error) if isinstance(error, Refused) else failed, ended
            )
            return
        if number not in self._streams.held:
            return  # a new policy has ended it meanwhile
        data = self._streams.held.release(number)
        try:
            stream.outgoing.look(data)
        except CredentialRefused as error:
            self._guest.acknowledge(number, len(data))
            self._streams.refuse_body(stream, error, ended)
            return
        self._go_on(stream, side, approved)
        if other := self._guest.partner.get(number):
            stream.entry.bytes_out += len(data)
            other[0].put(other[1], data=data, end=ended, source=(self._guest, number))
            if ended:
                self._streams.half_over(number, asked=True)
        else:
            self._guest.acknowledge(number, len(data))

    async def _reach(self, stream: Stream, approved: Approved) -> None:
        """Wait for a connection to the server, while the other streams go on; then send what has come meanwhile."""
        refusal = None
        try:
            side = await self._links.reach(stream.entry, approved.decision)
        except Refused as error:
            refusal = self._streams.refusal(error)
        except UpstreamUnreachable:
            refusal = Refusal(502, stream.entry.reason, self._host, self._port)
        if self._streams.open.get(stream.number) is not stream:
            return  # it has ended meanwhile
        if refusal is not None:
            del self._streams.open[stream.number]
            self._streams.return_early(stream)
            self._streams.refuse(stream.number, stream.entry, refusal, stream.head, stream.asked)
            return
        self._go_on(stream, side, approved)
        if self._streams.open.get(stream.number) is not stream:
            return  # the server takes no more streams
        early, stream.early = stream.early or [], None
        for event in early:
            if isinstance(event, h2.events.DataReceived):
                self._data(self._guest, event)
            elif isinstance(event, h2.events.TrailersReceived):
                self._trailers(event)

    def _go_on(self, stream: Stream, side: Side, approved: Approved) -> None:
        added = [NeverIndexedHeaderTuple(name, value) for name, value in approved.added]
        reached = approved.decision.reached(self._host)
        spoken = reached if self._port == 443 else f"{reached}:{self._port}"
        onward = stream.head.onward(spoken, approved.target, [*approved.headers, *added])
        try:
            self._start(side, stream, onward)
        except GONE:
            self._streams.end(stream.number, Code.REFUSED_STREAM, f"{self._host} takes no more requests at once")

    def _trailers(self, event: h2.events.TrailersReceived) -> None:
        """Those of requests are not passed on."""
        if (stream := self._streams.open.get(event.stream_id)) and stream.early is not None:
            stream.early.append(event)
        elif other := self._guest.partner.get(event.stream_id):
            other[0].put(other[1], end=True)
            self._streams.half_over(event.stream_id, asked=True)

    # Bodies and answers

    def _data(self, side: Side, event: h2.events.DataReceived) -> None:
        number, data, end = event.stream_id, event.data or b"", event.stream_ended is not None
        length = event.flow_controlled_length or 0
        other = side.partner.get(number)
        if not side.client and (waiting := self._streams.open.get(number)) and waiting.early is not None:
            waiting.early.append(event)  # not acknowledged: a window of it is the most that comes
            return
        if other is None:
            side.acknowledge(number, length)
            if not side.client and number in self._streams.running_off:
                self._streams.run_off(number, len(data), end)
            return
        side.acknowledge(number, length - len(data))  # padding
        if not side.client:
            if stream := self._streams.open.get(number):
                try:
                    stream.outgoing.look(data)
                except CredentialRefused as error:
                    side.acknowledge(number, len(data))
                    self._streams.refuse_body(stream, error, end)
                    return
                stream.entry.bytes_out += len(data)
            other[0].put(other[1], data=data, end=end, source=(side, number))
            if end:
                self._streams.half_over(number, asked=True)
            return
        stream = self._streams.open.get(other[1])
        if stream is not None:
            try:
                data = stream.incoming.feed(data) + (stream.incoming.finish() if end else b"")
            except AnswerRefused as error:
                self._streams.refuse_answer(stream, error)
                return
            stream.entry.bytes_in += len(data)
        other[0].put(other[1], data=data, end=end, source=(side, number))
        if end:
            self._streams.half_over(other[1], replied=True)

    def _answer(
        self,
        side: Side,
        event: h2.events.ResponseReceived | h2.events.InformationalResponseReceived | h2.events.TrailersReceived,
    ) -> None:
        other = side.partner.get(event.stream_id)
        stream = self._streams.open.get(other[1]) if other else None
        if other is None or stream is None:
            return
        end = not isinstance(event, h2.events.InformationalResponseReceived) and event.stream_ended is not None
        banned = NOT_TRAILERS if isinstance(event, h2.events.TrailersReceived) else {b"alt-svc", b"proxy-authenticate"}
        if isinstance(event, h2.events.ResponseReceived):
            status = int(dict(event.headers).get(b":status", b"0"))
            try:
                stream.incoming.begin(status, event.headers, bodiless=end or stream.head.method == "HEAD")
            except AnswerRefused as error:
                self._streams.refuse_answer(stream, error)
                return
        stream.resend, stream.answered = None, True
        if held := stream.incoming.finish():  # before trailers
            other[0].put(other[1], data=held, source=(side, event.stream_id))
        clean = stream.incoming.clean
        fields = [(clean(bytes(name)), clean(bytes(value))) for name, value in event.headers]
        fields = [(name, value) for name, value in fields if name not in banned]
        stream.entry.bytes_in += sum(len(name) + len(value) for name, value in fields)
        if fields or not end:
            other[0].put(other[1], headers=fields, end=end)
        else:
            other[0].put(other[1], end=True)
        if end:
            self._streams.half_over(stream.number, replied=True)
