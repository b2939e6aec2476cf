"""HTTP/2 to HTTP/2: every stream of an intercepted connection is judged by itself, flow control goes from end to end.

One connection of the guest has one current connection to the server, and older ones that drain (GOAWAY) or are gone:
the end of one ends its streams, not the guest's connection. What a side has sent is acknowledged only when the other
side's socket has taken it: a stream holds at most its window in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

import h2.events
import h2.exceptions
from hpack import NeverIndexedHeaderTuple

from engine.gateway.answers import AnswerRefused, Incoming
from engine.gateway.context import Context, Refused
from engine.gateway.errors import GatewayError
from engine.gateway.exchange import NOT_TRAILERS
from engine.gateway.h2head import RequestHead, read_head
from engine.gateway.h2held import BodyEvent, HeldBodies
from engine.gateway.h2links import Dial, Links
from engine.gateway.h2side import GONE, Code, Side
from engine.gateway.httphead import BadRequest
from engine.gateway.injection import CredentialRefused
from engine.gateway.journal import JournalLine
from engine.gateway.outgoing import Outgoing
from engine.gateway.refusal import Refusal
from engine.gateway.requests import Approved, approve, note_redaction
from engine.gateway.splice import finish
from engine.gateway.tlsio import TlsStream
from engine.gateway.upstream import UpstreamUnreachable

_RUN_OFF = 256 << 10  # of a refused body: an answer that a reset comes right behind is lost in some clients
_MOST_RESETS = 1000  # of one connection
Headers = list[tuple[bytes, bytes]]


@dataclass
class Stream:
    """One request of the guest on its way. `cancel` is what a new policy does to it."""

    relay: Relay
    number: int
    head: RequestHead
    entry: JournalLine
    incoming: Incoming
    outgoing: Outgoing
    asked: bool  # the guest's half has ended
    resend: Headers | None = None  # the request, as long as it has no body and no answer, and was sent once
    again: bool = False  # it was sent a second time
    answered: bool = False
    replied: bool = False  # the server's half has ended
    early: list[h2.events.Event] | None = None  # what came of its body while a connection to the server is being made

    def cancel(self) -> None:
        self.relay.cut(self)


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
        self._guest = Side(guest, client=False)
        self._links = Links(context, self._host, upstream, failure, dial, self._read_upstream, self._fail)
        self._streams: dict[int, Stream] = {}
        self._held = HeldBodies(context, self._guest, self._expire)
        self._running_off: dict[int, int] = {}  # refused streams, and how much of their bodies has come
        self._resets = 0
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
            self._abandon(reason)
            try:
                while rest := [*self._tasks, *self._links.tasks]:  # one that ends may have begun another
                    await finish(*rest)
            finally:
                self._guest.say_goodbye()
                self._links.drop_all()

    def _abandon(self, reason: str) -> None:
        """Settle what is open, before the end of the server's connections looks like its cause."""
        for stream in list(self._streams.values()):
            self._settle(stream, "" if stream.replied else reason)
        self._streams.clear()
        self._held.drop_all()

    def cut(self, stream: Stream) -> None:
        """End a stream that a new policy forbids; its reason is in its entry."""
        if stream.early is not None:  # nothing of it has gone to the server, so there is an answer still
            del self._streams[stream.number]
            self._return_early(stream)
            refusal = Refusal(403, stream.entry.reason, self._host, self._port)
            self._refuse(stream.number, stream.entry, refusal, stream.head, stream.asked)
            return
        self._part(stream.number, Code.CANCEL)
        self._end(stream.number, Code.CANCEL)

    def _spawn(self, coroutine: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _start(self, side: Side, stream: Stream, onward: Headers) -> None:
        """Raises ProtocolError when the server takes no more streams now."""
        number = side.h2.get_next_available_stream_id()
        side.h2.send_headers(number, onward, end_stream=stream.asked)  # at once: numbers must go out in their order
        self._guest.partner[stream.number] = side, number
        side.partner[number] = self._guest, stream.number
        stream.resend = onward if stream.asked and not stream.again else None
        stream.entry.bytes_out += sum(len(name) + len(value) for name, value in onward)
        side.collect()
        side.wake.set()

    def _part(self, number: int, code: int | None = None) -> None:
        """Separate a stream of the guest from the server's, which is reset where there is a code."""
        other = self._guest.partner.pop(number, None)
        if other is not None:
            other[0].partner.pop(other[1], None)
            if code is not None:
                other[0].reset(other[1], code)

    # Reading

    async def _read_guest(self) -> None:
        limits = self._context.limits
        await self._guest.read(limits, self._from_guest, self._goaway, may_be_silent=lambda: bool(self._streams))

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
            self._part(ours)
            stream = self._streams.get(ours)
            if stream is not None and stream.resend is not None:
                self._spawn(self._send_again(stream, stream.resend))
            else:
                self._end(ours, Code.REFUSED_STREAM, f"{self._host} did not take the request")

    async def _send_again(self, stream: Stream, onward: Headers) -> None:
        decision = self._context.policy.decide(self._host, self._port)
        stream.again = True  # a server may send away whatever comes, on each of its connections
        try:
            side = await self._links.reach(stream.entry, decision)
            self._start(side, stream, onward)
        except (Refused, UpstreamUnreachable) as error:
            self._fail(stream.number, error.brief)
        except GONE:
            self._end(stream.number, Code.REFUSED_STREAM, f"{self._host} takes no more requests")

    async def _from_guest(self, side: Side, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self._request(event)
        elif isinstance(event, BodyEvent) and event.stream_id in self._held:
            await self._judge_body(event)
        elif isinstance(event, h2.events.TrailersReceived):
            self._trailers(event)
        elif isinstance(event, h2.events.StreamReset):
            self._resets += 1
            if self._resets > _MOST_RESETS:
                raise h2.exceptions.ProtocolError("too many resets")
            self._running_off.pop(event.stream_id, None)
            side.drop(event.stream_id)
            self._part(event.stream_id, event.error_code)
            self._forget(event.stream_id, "the guest cancelled it")
        else:
            self._common(side, event)

    async def _from_upstream(self, side: Side, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.StreamReset):
            other = side.partner.get(event.stream_id)
            side.drop(event.stream_id)
            if other is not None:
                self._part(other[1])
                self._server_reset(other[1], event.error_code or 0)
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
            held = self._held.hold(number, approved, head.headers, ended=ended)
        except BadRequest as error:
            self._refuse(number, entry, Refusal(error.status, error.brief), head, ended)
            return
        except Refused as error:
            self._refuse(number, entry, self._refusal(error), head, ended)
            return
        stream = Stream(self, number, head, entry, approved.incoming, approved.outgoing, ended)
        self._streams[number] = stream
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
        stream = self._streams[number]
        try:
            approved = self._held.take(event)
            if approved is None:
                return
            side = await self._links.reach(stream.entry, approved.decision)
        except (Refused, UpstreamUnreachable) as error:
            failed = Refusal(502, stream.entry.reason, self._host, self._port)
            self._refuse_held(number, self._refusal(error) if isinstance(error, Refused) else failed, ended)
            return
        if number not in self._held:
            return  # a new policy has ended it meanwhile
        data = self._held.release(number)
        try:
            stream.outgoing.look(data)
        except CredentialRefused as error:
            self._guest.acknowledge(number, len(data))
            self._refuse_body(stream, error, ended)
            return
        self._go_on(stream, side, approved)
        if other := self._guest.partner.get(number):
            stream.entry.bytes_out += len(data)
            other[0].put(other[1], data=data, end=ended, source=(self._guest, number))
            if ended:
                self._half_over(number, asked=True)
        else:
            self._guest.acknowledge(number, len(data))

    def _refuse_held(self, number: int, refusal: Refusal, ended: bool) -> None:
        self._held.drop(number)
        if stream := self._streams.pop(number, None):
            self._refuse(number, stream.entry, refusal, stream.head, ended)

    def _expire(self, number: int) -> None:
        reason = f"what has to be judged did not come within {self._context.limits.held_s:g} s"
        self._refuse_held(number, Refusal(408, reason, self._host, self._port), ended=False)

    def _refusal(self, error: Refused) -> Refusal:
        status = error.decision.status if error.decision else 403
        return Refusal(status, error.brief, self._host, self._port, error.decision, error.hint, error.reply)

    async def _reach(self, stream: Stream, approved: Approved) -> None:
        """Wait for a connection to the server, while the other streams go on; then send what has come meanwhile."""
        refusal = None
        try:
            side = await self._links.reach(stream.entry, approved.decision)
        except Refused as error:
            refusal = self._refusal(error)
        except UpstreamUnreachable:
            refusal = Refusal(502, stream.entry.reason, self._host, self._port)
        if self._streams.get(stream.number) is not stream:
            return  # it has ended meanwhile
        if refusal is not None:
            del self._streams[stream.number]
            self._return_early(stream)
            self._refuse(stream.number, stream.entry, refusal, stream.head, stream.asked)
            return
        self._go_on(stream, side, approved)
        early, stream.early = stream.early or [], None
        for event in early:
            if isinstance(event, h2.events.DataReceived):
                self._data(self._guest, event)
            elif isinstance(event, h2.events.TrailersReceived):
                self._trailers(event)

    def _return_early(self, stream: Stream) -> None:
        """Acknowledge what came of a body that goes nowhere."""
        for event in stream.early or ():
            if isinstance(event, h2.events.DataReceived):
                self._guest.acknowledge(stream.number, event.flow_controlled_length or 0)
            stream.asked |= event.stream_ended is not None  # type: ignore[attr-defined]

    def _go_on(self, stream: Stream, side: Side, approved: Approved) -> None:
        added = [NeverIndexedHeaderTuple(name, value) for name, value in approved.added]
        reached = approved.decision.reached(self._host)
        spoken = reached if self._port == 443 else f"{reached}:{self._port}"
        onward = stream.head.onward(spoken, approved.target, [*approved.headers, *added])
        try:
            self._start(side, stream, onward)
        except GONE:
            self._end(stream.number, Code.REFUSED_STREAM, f"{self._host} takes no more requests at once")

    def _trailers(self, event: h2.events.TrailersReceived) -> None:
        """Those of requests are not passed on."""
        if (stream := self._streams.get(event.stream_id)) and stream.early is not None:
            stream.early.append(event)
        elif other := self._guest.partner.get(event.stream_id):
            other[0].put(other[1], end=True)
            self._half_over(event.stream_id, asked=True)

    def _refuse(self, number: int, entry: JournalLine, refusal: Refusal, head: RequestHead | None, ended: bool) -> None:
        if refusal.status != 502:
            entry.verdict, entry.how = "refused", "refuse"
        entry.reason = refusal.reason
        self._context.write(entry)
        self._say(number, refusal, head)
        if not ended:
            self._running_off[number] = 0

    def _say(self, number: int, refusal: Refusal, head: RequestHead | None) -> None:
        media_type, body = refusal.body(head.accept if head else "")
        headers = [
            (b":status", b"%d" % refusal.sent_status),
            (b"content-type", media_type.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        if head is not None and head.method == "HEAD":
            self._guest.put(number, headers=headers, end=True)
        else:
            self._guest.put(number, headers=headers)
            self._guest.put(number, data=body, end=True)

    # Bodies and answers

    def _data(self, side: Side, event: h2.events.DataReceived) -> None:
        number, data, end = event.stream_id, event.data or b"", event.stream_ended is not None
        length = event.flow_controlled_length or 0
        other = side.partner.get(number)
        if not side.client and (waiting := self._streams.get(number)) and waiting.early is not None:
            waiting.early.append(event)  # not acknowledged: a window of it is the most that comes
            return
        if other is None:
            side.acknowledge(number, length)
            if not side.client and number in self._running_off:
                self._run_off(number, len(data), end)
            return
        side.acknowledge(number, length - len(data))  # padding
        if not side.client:
            if stream := self._streams.get(number):
                try:
                    stream.outgoing.look(data)
                except CredentialRefused as error:
                    side.acknowledge(number, len(data))
                    self._refuse_body(stream, error, end)
                    return
                stream.entry.bytes_out += len(data)
            other[0].put(other[1], data=data, end=end, source=(side, number))
            if end:
                self._half_over(number, asked=True)
            return
        stream = self._streams.get(other[1])
        if stream is not None:
            try:
                data = stream.incoming.feed(data) + (stream.incoming.finish() if end else b"")
            except AnswerRefused as error:
                side.acknowledge(number, len(data))
                self._refuse_answer(stream, error)
                return
            stream.entry.bytes_in += len(data)
        other[0].put(other[1], data=data, end=end, source=(side, number))
        if end:
            self._half_over(other[1], replied=True)

    def _run_off(self, number: int, size: int, end: bool) -> None:
        """The body of a refused request: some of it may come, then the guest is told to stop."""
        self._running_off[number] += size
        if end:
            del self._running_off[number]
        elif self._running_off[number] > _RUN_OFF:
            del self._running_off[number]
            self._guest.reset(number, Code.NO_ERROR)  # RFC 9113, 8.1

    def _answer(
        self,
        side: Side,
        event: h2.events.ResponseReceived | h2.events.InformationalResponseReceived | h2.events.TrailersReceived,
    ) -> None:
        other = side.partner.get(event.stream_id)
        stream = self._streams.get(other[1]) if other else None
        if other is None or stream is None:
            return
        end = not isinstance(event, h2.events.InformationalResponseReceived) and event.stream_ended is not None
        banned = NOT_TRAILERS if isinstance(event, h2.events.TrailersReceived) else {b"alt-svc", b"proxy-authenticate"}
        if isinstance(event, h2.events.ResponseReceived):
            status = int(dict(event.headers).get(b":status", b"0"))
            try:
                stream.incoming.begin(status, event.headers, bodiless=end or stream.head.method == "HEAD")
            except AnswerRefused as error:
                self._refuse_answer(stream, error)
                return
        stream.resend, stream.answered = None, True
        if held := stream.incoming.finish():  # before trailers
            other[0].put(other[1], data=held, source=(side, event.stream_id))
        fields = [(bytes(name), stream.incoming.clean(bytes(value))) for name, value in event.headers]
        fields = [(name, value) for name, value in fields if name not in banned]
        stream.entry.bytes_in += sum(len(name) + len(value) for name, value in fields)
        if fields or not end:
            other[0].put(other[1], headers=fields, end=end)
        else:
            other[0].put(other[1], end=True)
        if end:
            self._half_over(stream.number, replied=True)

    # Ends

    def _half_over(self, number: int, *, asked: bool = False, replied: bool = False) -> None:
        """One half of a stream has been queued to its end; with both, the two sides' streams have no more in common."""
        stream = self._streams.get(number)
        if stream is None:
            return
        stream.asked |= asked
        stream.replied |= replied
        if stream.replied:
            self._settle(stream)
            if stream.asked:
                self._part(number)
                del self._streams[number]

    def _server_reset(self, number: int, code: int) -> None:
        stream = self._streams.get(number)
        if stream is not None and stream.replied:
            # It has answered, and wants no more of the body. What is queued of the answer still goes out.
            del self._streams[number]
            self._running_off[number] = 0
        else:
            self._end(number, code, f"{self._host} ended the request")

    def _fail(self, number: int, reason: str) -> None:
        """The server is gone under a stream: the guest gets an answer if it has none yet."""
        stream = self._streams.get(number)
        self._part(number)
        if stream is None or stream.replied:
            return
        if stream.answered:
            self._end(number, Code.INTERNAL_ERROR, reason)
            return
        stream.entry.verdict = "failed"
        self._forget(number, reason)
        self._say(number, Refusal(502, reason, self._host, self._port), stream.head)
        if not stream.asked:
            self._running_off[number] = 0

    def _refuse_body(self, stream: Stream, error: CredentialRefused, end: bool) -> None:
        """What of it has gone on is all that the server gets."""
        self._part(stream.number, Code.CANCEL)
        if stream.answered:
            stream.entry.verdict = "refused"
            self._end(stream.number, Code.CANCEL, error.brief)
            return
        del self._streams[stream.number]
        refusal = Refusal(403, error.brief, self._host, self._port)
        self._refuse(stream.number, stream.entry, refusal, stream.head, end)

    def _refuse_answer(self, stream: Stream, error: AnswerRefused) -> None:
        """The guest must not have it: it is told so, or, if it has a part, its stream is reset."""
        stream.entry.verdict = "refused"
        self._part(stream.number, Code.CANCEL)
        if stream.answered:
            self._end(stream.number, Code.INTERNAL_ERROR, error.brief)
            return
        self._forget(stream.number, error.brief)
        self._say(stream.number, Refusal(502, error.brief, self._host, self._port), stream.head)
        if not stream.asked:
            self._running_off[stream.number] = 0

    def _end(self, number: int, code: int, reason: str = "") -> None:
        self._guest.reset(number, code)
        self._forget(number, reason)

    def _forget(self, number: int, reason: str) -> None:
        self._held.drop(number)
        if stream := self._streams.pop(number, None):
            self._return_early(stream)
            self._settle(stream, reason)

    def _settle(self, stream: Stream, reason: str = "") -> None:
        """Write the journal's line, once."""
        if stream.entry in self._context.live:
            if reason:
                stream.entry.reason = reason
            note_redaction(stream.entry, stream.incoming)
            self._context.settle(stream.entry)
