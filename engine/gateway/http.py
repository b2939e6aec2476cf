"""Plain HTTP of the guest: every request on a connection is judged by itself.

A connection is kept alive and a later request may name another host, so looking at the first head alone is not
enough. Of the two sound ways, forcing `Connection: close` after the first request or following the requests one by
one, this does the second: package managers send hundreds of requests over one connection. Requests are not copied
but read and written anew by h11, in step with their answers, each against a state machine of its own. What goes
upstream is therefore one request in one spelling, and bytes that the upstream could take for a second, unjudged
request do not get there. Not passed on: trailers, the hop-by-hop headers, Upgrade and CONNECT.
"""

from __future__ import annotations

import asyncio

from engine.gateway.context import Context, Refused
from engine.gateway.exchange import Exchange, GuestBroke, UpstreamBroke
from engine.gateway.httphead import BadRequest, RequestHead, head_length, read_head
from engine.gateway.journal import JournalLine
from engine.gateway.policy import Decision
from engine.gateway.refusal import explain, plain_answer
from engine.gateway.splice import close, hang_up
from engine.gateway.upstream import Streams, UpstreamUnreachable


class HttpSession:
    """One connection of the guest that does not speak TLS. Owns the upstream connection, not the guest's."""

    def __init__(self, context: Context, guest: Streams, port: int, first: bytes) -> None:
        self._context = context
        self._limits = context.limits
        self._guest = guest
        self._port = port
        self._buffer = bytearray(first)
        self._upstream: Streams | None = None
        self._upstream_host = ""

    async def serve(self, deadline: float) -> None:
        """Serve requests until one side is done; the first head must be complete at `deadline` (loop time)."""
        loop = asyncio.get_running_loop()
        try:
            while await self._serve_one(deadline) and await self._wait_for_next():
                deadline = loop.time() + self._limits.head_s
        finally:
            await self._drop_upstream()

    async def _serve_one(self, deadline: float) -> bool:
        """One request and its answer. True when another may follow."""
        entry = JournalLine(port=self._port, protocol="http")
        with self._context.recording(entry):
            decision = None
            try:
                head = await self._read_head(deadline)
                entry.host, entry.method, entry.path = head.host, head.method, head.path
                decision = self._context.judge(entry)
                fresh = await self._reach(entry, decision)
            except BadRequest as error:
                return await self._refuse(entry, error.status, error.brief, explain(error.brief))
            except Refused as error:
                text = explain(error.brief, entry.host, entry.port, error.decision)
                return await self._refuse(entry, 403, error.brief, text)
            except UpstreamUnreachable:
                return await self._give_up(entry, entry.reason)
            return await self._relay(head, entry, fresh)

    async def _read_head(self, deadline: float) -> RequestHead:
        """Take one head off the buffer. Raises BadRequest."""
        scanned = 0
        while self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]  # some clients send an empty line after a body (RFC 9112, 2.2)
        try:
            async with asyncio.timeout_at(deadline):
                while (length := head_length(self._buffer, scanned)) is None:
                    scanned = len(self._buffer)
                    if scanned > self._limits.head_bytes:
                        raise BadRequest(f"a request head longer than {self._limits.head_bytes} bytes", 431)
                    data = await self._guest[0].read(self._limits.head_bytes)
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
        return read_head(head, self._port)

    async def _reach(self, entry: JournalLine, decision: Decision) -> bool:
        """Have an upstream connection to the entry's host. True when it is a new one."""
        if self._upstream is not None and self._upstream_host == entry.host:
            return False
        await self._drop_upstream()
        self._upstream = await self._context.dial(entry, decision)
        self._upstream_host = entry.host or ""
        return True

    async def _relay(self, head: RequestHead, entry: JournalLine, fresh: bool) -> bool:
        """Pass one request on and its answer back. True when another may follow."""
        assert self._upstream is not None
        exchange = Exchange(head, self._guest, self._upstream, entry, self._context.limits)
        received = bytes(self._buffer)
        self._buffer.clear()
        try:
            await exchange.run(received)
        except UpstreamBroke as error:
            entry.reason = str(error)
            if fresh and not exchange.answered:
                return await self._give_up(entry, str(error))
            # A kept connection that the server closes under a request: the guest sees just that, and tries again.
            return False
        except GuestBroke as error:
            entry.reason = str(error)
            if not exchange.answered:
                return await self._refuse(entry, 400, str(error), explain(str(error)))
            return False
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

    async def _refuse(self, entry: JournalLine, status: int, reason: str, text: str) -> bool:
        entry.verdict, entry.reason = "refused", reason
        self._context.settle(entry)
        await hang_up(self._guest, plain_answer(status, text, head_only=entry.method == "HEAD"), self._limits)
        return False

    async def _give_up(self, entry: JournalLine, reason: str) -> bool:
        entry.verdict = "failed"
        self._context.settle(entry)
        answer = plain_answer(502, f"sandbox: {reason}\n", head_only=entry.method == "HEAD")
        await hang_up(self._guest, answer, self._limits)
        return False

    async def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            await close(upstream, self._limits)
