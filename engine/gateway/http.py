"""HTTP/1 of the guest, plain or inside intercepted TLS: every request on a connection is judged by itself.

A connection is kept alive and a later request may name another host, so looking at the first head alone is not
enough. Of the two sound ways, forcing `Connection: close` after the first request or following the requests one by
one, this does the second: package managers send hundreds of requests over one connection. Requests are not copied
but read and written anew by h11, in step with their answers, each against a state machine of its own. What goes
upstream is therefore one request in one spelling, and bytes that the upstream could take for a second, unjudged
request do not get there. Not passed on: trailers of requests, the hop-by-hop headers, CONNECT, and Upgrade to anything
but a WebSocket inside TLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import h11

from engine.gateway.answers import AnswerRefused
from engine.gateway.body_checks import BodyRefused
from engine.gateway.context import Context, Refused
from engine.gateway.errors import GatewayError
from engine.gateway.exchange import Exchange, GuestBroke, UpstreamBroke
from engine.gateway.guest_asks import ASK_HOST
from engine.gateway.httphead import BadRequest, RequestHead, head_length, read_head
from engine.gateway.injection import CredentialRefused
from engine.gateway.journal import JournalLine
from engine.gateway.policy import Decision
from engine.gateway.refusal import Refusal
from engine.gateway.requests import Approved, approve, note_redaction, refused_body
from engine.gateway.splice import close, hang_up
from engine.gateway.upstream import Streams, UpstreamUnreachable
from engine.gateway.whole import ANSWER_S, Onward, Whole, collect

Dial = Callable[[JournalLine, Decision], Awaitable[Streams]]
"""A new connection to the entry's host; raises Refused and UpstreamUnreachable."""


@dataclass
class Inside:
    """The TLS around a session: its one host, the first request's journal line, and the way to the server.

    `upstream` is a connection that is made already; `failure` says why there is none.
    """

    host: str
    entry: JournalLine
    upstream: Streams | None
    failure: GatewayError | None
    dial: Dial


class _Over(Exception):
    """The guest has ended its connection, and has no request in the air."""


class HttpSession:
    """One connection of the guest. Owns the upstream connection, not the guest's."""

    def __init__(
        self, context: Context, guest: Streams, port: int, first: bytes = b"", inside: Inside | None = None
    ) -> None:
        self._context = context
        self._limits = context.limits
        self._guest = guest
        self._port = port
        self._buffer = bytearray(first)
        self._inside = inside
        self._first_entry = inside.entry if inside else None
        self._dial: Dial = inside.dial if inside else context.dial
        self._failure = inside.failure if inside else None
        self._upstream = inside.upstream if inside else None
        self._upstream_host = inside.host if inside else ""
        self._fresh = True  # nothing has been asked of the upstream connection
        self.whole = True  # whether the last answer was; else the guest's connection must not end as if it were

    async def serve(self, deadline: float) -> None:
        """Serve requests until one side is done; the first head must be complete at `deadline` (loop time)."""
        loop = asyncio.get_running_loop()
        try:
            while await self._serve_one(deadline) and await self._wait_for_next():
                deadline = loop.time() + self._limits.head_s
        except _Over:
            pass
        finally:
            await self._drop_upstream()

    async def _serve_one(self, deadline: float) -> bool:
        """One request and its answer. True when another may follow."""
        entry, self._first_entry = self._first_entry, None
        if entry is None:
            entry = JournalLine(port=self._port, protocol="tls" if self._inside else "http", how="intercept")
            entry.host = self._inside.host if self._inside else None
        with self._context.recording(entry):
            async with AsyncExitStack() as stack:
                return await self._serve_judged(entry, deadline, stack)

    async def _serve_judged(self, entry: JournalLine, deadline: float, stack: AsyncExitStack) -> bool:
        """`stack` ends with the answer."""
        head = None
        try:
            head = await self._read_head(deadline)
            entry.host, entry.method, entry.path, entry.target = head.host, head.method, head.path, head.target
            if head.host == ASK_HOST and self._inside is None and self._context.changeable:
                return await self._take_ask(entry, head)
            if self._inside is None:
                await self._context.ask(entry)
            approved = approve(self._context, entry, head.headers, head.overrides, inside_tls=self._inside is not None)
            if approved.whole is None:
                body, onward = None, head.onward(approved.target, [*approved.headers, *approved.added])
            else:
                changed = await self._take_whole(head, approved.whole, stack)
                body, onward = changed.body, head.onward(changed.target, changed.headers)
            await self._reach(entry, approved.decision)
        except BadRequest as error:
            return await self._refuse(entry, Refusal(error.status, error.brief), head)
        except Refused as error:
            return await self._refuse_by_rule(entry, error, head)
        except UpstreamUnreachable:
            return await self._give_up(entry, entry.reason, head)
        return await self._relay(head, onward, entry, approved, body)

    async def _take_ask(self, entry: JournalLine, head: RequestHead) -> bool:
        """The guest asks the user for a name. Where somebody sits there, it waits as a connection to the name does."""
        asks, waiting = self._context.asks, self._context.waiting
        heard = asks.hear(head.method, head.target, self._context.policy)
        entry.method = entry.path = entry.target = entry.protocol = None
        if (ask := heard.ask) is None:
            entry.verdict, entry.reason, entry.how = "refused", heard.text, "refuse"
        else:
            entry.host, entry.port, entry.verdict, entry.reason = ask.host, ask.port, "asked", ask.why
            self._context.settle(entry)
            await waiting.hold(ask.host, ask.port, self._context.policy, ask.why)
            heard = asks.outcome(ask, self._context.policy) or heard
        self._context.settle(entry)
        await hang_up(self._guest, heard.answer(), self._limits)
        return False

    async def _take_whole(self, head: RequestHead, whole: Whole, stack: AsyncExitStack) -> Onward:
        """Collect the body, wait for one's turn, and make of it what is sent. Raises BadRequest and Refused."""
        room = stack.enter_context(self._context.held.room())
        received = bytes(self._buffer)
        self._buffer.clear()
        body = await collect(head.guest, self._guest, received, whole.longest, room, self._limits)
        await stack.enter_async_context(whole.turn)
        try:
            return whole.change(body)
        except CredentialRefused as error:
            raise Refused(error.brief, hint=error.hint) from None

    async def _read_head(self, deadline: float) -> RequestHead:
        """Take one head off the buffer. Raises BadRequest."""
        scanned = 0
        while self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]  # some clients send an empty line after a body (RFC 9112, 2.2)
        try:
            async with asyncio.timeout_at(deadline):
                while not self._buffer or (length := head_length(self._buffer, scanned)) is None:
                    scanned = len(self._buffer)
                    if scanned > self._limits.head_bytes:
                        raise BadRequest(f"a request head longer than {self._limits.head_bytes} bytes", 431)
                    data = await self._guest[0].read(self._limits.head_bytes)
                    if not data and not self._buffer and self._inside:
                        raise _Over
                    if not data:
                        raise BadRequest("the guest hung up within a request head")
                    self._buffer += data
        except TimeoutError:
            raise BadRequest(f"no complete request head within {self._limits.head_s:g} s", 408) from None
        except OSError:
            raise BadRequest("the guest broke off within a request head") from None
        if length > self._limits.head_bytes:
            raise BadRequest(f"a request head longer than {self._limits.head_bytes} bytes", 431)
        head = bytes(self._buffer[:length])
        del self._buffer[:length]
        return read_head(head, self._port, self._inside.host if self._inside else None)

    async def _reach(self, entry: JournalLine, decision: Decision) -> None:
        """Have an upstream connection to the entry's host."""
        if self._upstream is not None and self._upstream_host == entry.host:
            return
        await self._drop_upstream()
        failure, self._failure = self._failure, None
        if failure is not None:
            if isinstance(failure, UpstreamUnreachable):
                self._context.note_failure(entry, failure)
            raise failure
        self._upstream = await self._dial(entry, decision)
        self._upstream_host = entry.host or ""
        self._fresh = True

    async def _relay(
        self, head: RequestHead, onward: h11.Request, entry: JournalLine, approved: Approved, body: bytes | None
    ) -> bool:
        """Pass one request on and its answer back. True when another may follow."""
        assert self._upstream is not None
        exchange = Exchange(head, onward, self._guest, self._upstream, entry, self._limits, approved, body)
        exchange.receive(bytes(self._buffer))
        self._buffer.clear()
        fresh, self._fresh = self._fresh, False
        try:
            await exchange.judge_body()
            if approved.body is not None:
                approved.check_policy(self._context)
            async with asyncio.timeout(ANSWER_S if approved.whole and approved.whole.mask else None):
                await exchange.run()
            if exchange.switched:
                await exchange.relay_websocket()
                return False
        except BodyRefused as error:
            return await self._refuse_by_rule(entry, refused_body(approved.decision, error, approved.headers), head)
        except Refused as error:
            return await self._refuse_by_rule(entry, error, head)
        except TimeoutError:
            return await self._give_up(entry, f"{entry.host} did not answer within {ANSWER_S:g} s", head)
        except CredentialRefused as error:
            self.whole = not exchange.answered
            refusal = Refusal(403, error.brief, entry.host, entry.port)
            return not exchange.answered and await self._refuse(entry, refusal, head)
        except AnswerRefused as error:
            entry.verdict, entry.reason = "refused", error.brief
            self.whole = not exchange.answered
            return not exchange.answered and await self._say(
                entry, Refusal(502, error.brief, entry.host, entry.port), head
            )
        except UpstreamBroke as error:
            entry.reason = str(error)
            self.whole = not exchange.answered
            if fresh and not exchange.answered:
                return await self._give_up(entry, str(error), head)
            # A kept connection that the server closes under a request: the guest sees just that, and tries again.
            return False
        except GuestBroke as error:
            entry.reason = str(error)
            self.whole = not exchange.answered
            if not exchange.answered:
                return await self._refuse(entry, Refusal(400, str(error)), head)
            return False
        finally:
            note_redaction(entry, approved.incoming)
        if not exchange.upstream_reusable:
            await self._drop_upstream()
        self._buffer += exchange.surplus
        if not exchange.guest_reusable:
            self._context.settle(entry)
            await hang_up(self._guest, b"", self._limits)
        return exchange.guest_reusable

    async def _wait_for_next(self) -> bool:
        """Whether the guest has another request. When the upstream hangs up meanwhile, so do we: as without us."""
        if self._buffer:
            return True
        guest = asyncio.create_task(self._guest[0].read(self._limits.head_bytes))
        upstream = asyncio.create_task(self._upstream[0].read(1)) if self._upstream else None
        tasks = {guest} | ({upstream} if upstream else set())
        try:
            await asyncio.wait(tasks, timeout=self._limits.idle_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if upstream is not None and not upstream.cancelled():
            await self._drop_upstream()  # closed, or it speaks unasked: of no use either way
        if guest.cancelled() or guest.exception() is not None:
            return False
        self._buffer += guest.result()
        return bool(self._buffer)

    async def _refuse_by_rule(self, entry: JournalLine, error: Refused, head: RequestHead | None) -> bool:
        status = error.decision.status if error.decision else 403
        refusal = Refusal(status, error.brief, entry.host, entry.port, error.decision, error.hint, error.reply)
        return await self._refuse(entry, refusal, head)

    async def _refuse(self, entry: JournalLine, refusal: Refusal, head: RequestHead | None) -> bool:
        entry.verdict, entry.reason, entry.how = "refused", refusal.reason, "refuse"
        return await self._say(entry, refusal, head)

    async def _give_up(self, entry: JournalLine, reason: str, head: RequestHead | None) -> bool:
        entry.verdict = "failed"
        return await self._say(entry, Refusal(502, reason, entry.host, entry.port), head)

    async def _say(self, entry: JournalLine, refusal: Refusal, head: RequestHead | None) -> bool:
        self._context.settle(entry)
        accept, head_only = (head.accept, head.method == "HEAD") if head else ("", False)
        await hang_up(self._guest, refusal.answer(accept=accept, head_only=head_only), self._limits)
        return False

    async def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            await close(upstream, self._limits)
