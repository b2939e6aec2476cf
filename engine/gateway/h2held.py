"""HTTP/2 requests whose bodies are judged before the server hears of them: what has come of them is held here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import h2.events

from engine.gateway.body_checks import BodyRefused
from engine.gateway.context import Context
from engine.gateway.h2side import Side
from engine.gateway.requests import Approved, refused_body

BodyEvent = h2.events.DataReceived | h2.events.TrailersReceived


class HeldBodies:
    """Of one connection of the guest. What is held is not acknowledged, so each stream holds less than its window.

    `expire` is called with the number of a request of which too little has come for `held_s`.
    """

    def __init__(self, context: Context, guest: Side, expire: Callable[[int], None]) -> None:
        self._context = context
        self._guest = guest
        self._expire = expire
        self._approved: dict[int, Approved] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def __contains__(self, number: object) -> bool:
        return number in self._approved

    def hold(self, number: int, approved: Approved, headers: list[tuple[bytes, bytes]], *, ended: bool) -> bool:
        """Whether a request waits for its body from now on; False when it needs none. Raises Refused."""
        if approved.body is None:
            return False
        if ended:
            try:
                approved.body.end()
            except BodyRefused as error:
                raise refused_body(approved.decision, error, approved.headers) from None
            return False
        self._approved[number] = approved
        loop = asyncio.get_running_loop()
        self._timers[number] = loop.call_later(self._context.limits.held_s, self._expire, number)
        if any(name == b"expect" for name, _ in headers):  # it waits for a word, which the server cannot say yet
            self._guest.put(number, headers=[(b":status", b"100")])
        return True

    def take(self, event: BodyEvent) -> Approved | None:
        """More of a body; the request once it may go on. Raises Refused."""
        number, ended = event.stream_id, event.stream_ended is not None
        approved = self._approved[number]
        assert approved.body is not None
        try:
            if isinstance(event, h2.events.DataReceived):
                data = event.data or b""
                self._guest.acknowledge(number, (event.flow_controlled_length or 0) - len(data))  # padding
                approved.body.feed(data)
            if ended:
                approved.body.end()
        except BodyRefused as error:
            raise refused_body(approved.decision, error, approved.headers) from None
        if approved.body.open:
            approved.check_policy(self._context)
        return approved if approved.body.open else None

    def release(self, number: int) -> bytes:
        """What was held of a body that goes on now; whoever sends it acknowledges it."""
        self._timers.pop(number).cancel()
        body = self._approved.pop(number).body
        return bytes(body.data) if body is not None else b""

    def drop(self, number: int) -> None:
        """The request is over: its bytes are given back."""
        if number in self._approved:
            self._guest.acknowledge(number, len(self.release(number)))

    def drop_all(self) -> None:
        """The connection is over."""
        for number in list(self._approved):
            self.release(number)
