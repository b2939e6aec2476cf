"""The streams of one HTTP/2 connection of the guest: which there are, and how each of them ends."""

from __future__ import annotations

from dataclasses import dataclass

import h2.events

from engine.gateway.answers import AnswerRefused, Incoming
from engine.gateway.context import Context, Refused
from engine.gateway.h2head import RequestHead
from engine.gateway.h2held import HeldBodies
from engine.gateway.h2side import Code, Side
from engine.gateway.injection import CredentialRefused
from engine.gateway.journal import JournalLine
from engine.gateway.outgoing import Outgoing
from engine.gateway.refusal import Refusal
from engine.gateway.requests import note_redaction

_RUN_OFF = 256 << 10  # of a refused body: an answer that a reset comes right behind is lost in some clients
Headers = list[tuple[bytes, bytes]]


@dataclass
class Stream:
    """One request of the guest on its way. `cancel` is what a new policy does to it."""

    streams: Streams
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
        self.streams.cut(self)


class Streams:
    """Those of the guest's side, which is not theirs to close.

    `open` are the streams that have not ended, by their number; `held` those of them whose bodies wait to be judged.
    `running_off` are refused ones, with how much of their bodies has come since.
    """

    def __init__(self, context: Context, guest: Side, host: str, port: int) -> None:
        self._context, self._guest = context, guest
        self._host, self._port = host, port
        self.open: dict[int, Stream] = {}
        self.held = HeldBodies(context, guest, self.expire)
        self.running_off: dict[int, int] = {}

    def abandon(self, reason: str) -> None:
        """Settle what is open, before the end of the server's connections looks like its cause."""
        for stream in list(self.open.values()):
            self.settle(stream, "" if stream.replied else reason)
        self.open.clear()
        self.held.drop_all()

    def cut(self, stream: Stream) -> None:
        """End a stream that a new policy forbids; its reason is in its entry."""
        if stream.early is not None:  # nothing of it has gone to the server, so there is an answer still
            del self.open[stream.number]
            self.return_early(stream)
            refusal = Refusal(403, stream.entry.reason, self._host, self._port)
            self.refuse(stream.number, stream.entry, refusal, stream.head, stream.asked)
            return
        self.part(stream.number, Code.CANCEL)
        self.end(stream.number, Code.CANCEL)

    def part(self, number: int, code: int | None = None) -> None:
        """Separate a stream of the guest from the server's, which is reset where there is a code."""
        other = self._guest.partner.pop(number, None)
        if other is not None:
            side, theirs = other
            side.part(theirs)
            if stream := self.open.get(number):  # what was held back of an answer that nobody will see the end of
                side.acknowledge(theirs, len(stream.incoming.finish()))
            if code is not None:
                side.reset(theirs, code)

    def refuse_held(self, number: int, refusal: Refusal, ended: bool) -> None:
        """Answer a request whose body was held: nothing of it has gone to the server."""
        self.held.drop(number)
        if stream := self.open.pop(number, None):
            self.refuse(number, stream.entry, refusal, stream.head, ended)

    def expire(self, number: int) -> None:
        """What has to be judged of a body has not come in time."""
        reason = f"what has to be judged did not come within {self._context.limits.held_s:g} s"
        self.refuse_held(number, Refusal(408, reason, self._host, self._port), ended=False)

    def refusal(self, error: Refused) -> Refusal:
        """What a judgement looks like from outside."""
        status = error.decision.status if error.decision else 403
        return Refusal(status, error.brief, self._host, self._port, error.decision, error.hint, error.reply)

    def return_early(self, stream: Stream) -> None:
        """Acknowledge what came of a body that goes nowhere."""
        for event in stream.early or ():
            if isinstance(event, h2.events.DataReceived):
                self._guest.acknowledge(stream.number, event.flow_controlled_length or 0)
            stream.asked |= event.stream_ended is not None  # type: ignore[attr-defined]

    def refuse(self, number: int, entry: JournalLine, refusal: Refusal, head: RequestHead | None, ended: bool) -> None:
        """Write the journal's line, answer, and let some of the body come."""
        if refusal.status != 502:
            entry.verdict, entry.how = "refused", "refuse"
        entry.reason = refusal.reason
        self._context.write(entry)
        self.say(number, refusal, head)
        if not ended:
            self.running_off[number] = 0

    def say(self, number: int, refusal: Refusal, head: RequestHead | None) -> None:
        """Answer a stream that has had no answer."""
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

    def run_off(self, number: int, size: int, end: bool) -> None:
        """The body of a refused request: some of it may come, then the guest is told to stop."""
        self.running_off[number] += size
        if end:
            del self.running_off[number]
        elif self.running_off[number] > _RUN_OFF:
            del self.running_off[number]
            self._guest.reset(number, Code.NO_ERROR)  # RFC 9113, 8.1

    def half_over(self, number: int, *, asked: bool = False, replied: bool = False) -> None:
        """One half of a stream has been queued to its end; with both, the two sides' streams have no more in common."""
        stream = self.open.get(number)
        if stream is None:
            return
        stream.asked |= asked
        stream.replied |= replied
        if stream.replied:
            self.settle(stream)
            if stream.asked:
                self.part(number)
                del self.open[number]

    def server_reset(self, number: int, code: int) -> None:
        """The server has ended a stream with this code."""
        stream = self.open.get(number)
        if stream is not None and stream.replied:
            # It has answered, and wants no more of the body. What is queued of the answer still goes out.
            del self.open[number]
            self.running_off[number] = 0
        else:
            self.end(number, code, f"{self._host} ended the request")

    def fail(self, number: int, reason: str) -> None:
        """The server is gone under a stream: the guest gets an answer if it has none yet."""
        stream = self.open.get(number)
        self.part(number)
        if stream is None or stream.replied:
            return
        if stream.answered:
            self.end(number, Code.INTERNAL_ERROR, reason)
            return
        stream.entry.verdict = "failed"
        self.forget(number, reason)
        self.say(number, Refusal(502, reason, self._host, self._port), stream.head)
        if not stream.asked:
            self.running_off[number] = 0

    def refuse_body(self, stream: Stream, error: CredentialRefused, end: bool) -> None:
        """What of it has gone on is all that the server gets."""
        self.part(stream.number, Code.CANCEL)
        if stream.answered:
            stream.entry.verdict = "refused"
            self.end(stream.number, Code.CANCEL, error.brief)
            return
        del self.open[stream.number]
        refusal = Refusal(403, error.brief, self._host, self._port)
        self.refuse(stream.number, stream.entry, refusal, stream.head, end)

    def refuse_answer(self, stream: Stream, error: AnswerRefused) -> None:
        """The guest must not have it: it is told so, or, if it has a part, its stream is reset."""
        stream.entry.verdict = "refused"
        self.part(stream.number, Code.CANCEL)
        if stream.answered:
            self.end(stream.number, Code.INTERNAL_ERROR, error.brief)
            return
        self.forget(stream.number, error.brief)
        self.say(stream.number, Refusal(502, error.brief, self._host, self._port), stream.head)
        if not stream.asked:
            self.running_off[stream.number] = 0

    def end(self, number: int, code: int, reason: str = "") -> None:
        """Reset a stream towards the guest, and write its line of the journal."""
        self._guest.reset(number, code)
        self.forget(number, reason)

    def forget(self, number: int, reason: str) -> None:
        """A stream is over; what was held of it is given back."""
        self.held.drop(number)
        if stream := self.open.pop(number, None):
            self.return_early(stream)
            self.settle(stream, reason)

    def settle(self, stream: Stream, reason: str = "") -> None:
        """Write the journal's line, once."""
        if stream.entry in self._context.live:
            if reason:
                stream.entry.reason = reason
            note_redaction(stream.entry, stream.incoming)
            self._context.settle(stream.entry)
