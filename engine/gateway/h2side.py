"""One HTTP/2 connection of a relay: the state that `h2` keeps, what waits to be sent, and whole frames from bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from engine.gateway.h2room import Room, Share
from engine.gateway.h2windows import GONE, Windows
from engine.gateway.limits import Limits
from engine.gateway.tlsio import TlsStream

Code = h2.errors.ErrorCodes
_Setting = h2.settings.SettingCodes

WINDOW = 1 << 20  # bytes of one stream that we take before somebody has taken them from us
_FRAME = 64 << 10
_HEADER_LIST = 64 << 10
_MOST_STREAMS = 100
_BUDGET = 128 << 10  # moved into h2 at once
_TOGETHER = 32 << 10  # small frames that came together leave together
MOST_WAITING = 256 << 10  # bytes of our own making (answers to PING and the like) before we stop reading
_HEADERS, _PUSH, _GOAWAY, _CONTINUATION = 1, 5, 7, 9
_END_HEADERS = 4
_RAW = 128 << 10  # bytes read at once
_PREFACE = 24
_TURN = 256  # frames that are handled before the rest of the gateway has its turn


@dataclass
class Item:
    """Headers or data of one stream that wait. `source`: whom to tell that data have been taken."""

    headers: list[tuple[bytes, bytes]] | None
    data: bytearray
    end: bool
    source: tuple[Side, int] | None = None


class Side:
    """`client` is what we are on it. Its windows open again only when what came has been taken by the other side.

    `share` is what it may have of the gateway's room; without one it has a room of its own.
    """

    def __init__(self, tls: TlsStream, client: bool, share: Share | None = None) -> None:
        self.tls = tls
        self.client = client
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client, header_encoding=None))
        values = {_Setting.INITIAL_WINDOW_SIZE: WINDOW, _Setting.MAX_HEADER_LIST_SIZE: _HEADER_LIST}
        values |= {_Setting.MAX_FRAME_SIZE: _FRAME}
        values |= {_Setting.ENABLE_PUSH: 0} if client else {_Setting.MAX_CONCURRENT_STREAMS: _MOST_STREAMS}
        self.h2.local_settings = h2.settings.Settings(client=client, initial_values=values)
        # h2 takes these two over only from a change that is acknowledged, and these are no change.
        self.h2.max_inbound_frame_size = _FRAME
        self.h2.decoder.max_header_list_size = _HEADER_LIST
        self.h2.initiate_connection()
        self.partner: dict[int, tuple[Side, int]] = {}
        self.draining = False  # it takes no new streams
        self._drained = asyncio.Event()  # ... and has no old ones any more
        self.wake, self.sent = asyncio.Event(), asyncio.Event()
        self.wake.set()
        self.sent.set()
        self.out = bytearray()
        self._queues: dict[int, deque[Item]] = {}
        self._ready: dict[int, None] = {}  # in their turn; a flood of windows adds none twice
        self._raw = bytearray()
        self._block = 0  # bytes of a header block that is not whole
        self.started = client  # whether the client's preface is behind us
        self.windows = Windows(self.h2, share or Room().share(), self.wake.set)
        self.collect()

    async def read(
        self,
        limits: Limits,
        handle: Callable[[Side, h2.events.Event], Awaitable[None]],
        goaway: Callable[[Side, bytes], None],
        may_be_silent: Callable[[], bool] = lambda: False,
    ) -> None:
        """Hand on what comes until the end of the connection, or, where it drains, of its last stream.

        Raises TimeoutError for a silence of `idle_s` (`head_s` at the beginning) unless `may_be_silent`, and for a peer
        that takes none of our answers for as long; OSError, and ProtocolError for what is no HTTP/2.
        """
        while data := await self._receive(limits, may_be_silent):
            try:
                for is_goaway, run in self.frames(data):
                    await asyncio.sleep(0)
                    if is_goaway:
                        goaway(self, run)
                        continue
                    for event in self.h2.receive_data(run):
                        if isinstance(event, h2.events.DataReceived):
                            self.windows.came(event.flow_controlled_length or 0)
                        await handle(self, event)
            except h2.exceptions.ProtocolError:
                self.collect()
                self.tls.write(bytes(self.out))  # says what was wrong
                self.out.clear()
                raise
            self.windows.open()
            self.collect()
            self.wake.set()
            if self.client and self.draining and not self.partner:
                return
            if len(self.out) > MOST_WAITING:
                async with asyncio.timeout(limits.idle_s):
                    await self.sent.wait()  # it makes us answer, and does not read

    async def _receive(self, limits: Limits, may_be_silent: Callable[[], bool]) -> bytes:
        while True:
            try:
                async with asyncio.timeout(limits.idle_s if self.started else limits.head_s):
                    return await self.tls.read(_RAW)
            except TimeoutError:
                if not may_be_silent():
                    raise

    def collect(self) -> None:
        """Take what h2 wants to say into our own buffer, which has a bound."""
        self.out += self.h2.data_to_send()

    def frames(self, data: bytes) -> Iterator[tuple[bool, bytes]]:
        """(False, some whole frames) and (True, one GOAWAY). h2 takes one for the end; open streams go on after it.

        Raises ProtocolError for a frame or a header block that is too long, of which h2 would wait for the end.
        """
        raw = self._raw
        raw += data
        if not self.started:
            if len(raw) < _PREFACE:
                return
            self.started = True
            yield False, bytes(raw[:_PREFACE])
            del raw[:_PREFACE]
        start = at = count = 0
        while len(raw) - at >= 9:
            end = at + 9 + int.from_bytes(raw[at : at + 3], "big")
            if end - at - 9 > _FRAME:
                raise self._too_long("a frame")
            if len(raw) < end:
                break
            if raw[at + 3] in (_HEADERS, _PUSH, _CONTINUATION):
                self._block += end - at - 9
                if self._block > _HEADER_LIST:
                    raise self._too_long("a header block")
                if raw[at + 4] & _END_HEADERS:
                    self._block = 0
            if raw[at + 3] == _GOAWAY and end - at >= 17:
                if at > start:
                    yield False, bytes(raw[start:at])
                yield True, bytes(raw[at:end])
                start = end
            at = end
            count += 1
            if count % _TURN == 0 and at > start:
                yield False, bytes(raw[start:at])
                start = at
        if at > start:
            yield False, bytes(raw[start:at])
        del raw[:at]

    def part(self, stream: int) -> None:
        """A stream has nothing in common with one of another side any more."""
        self.partner.pop(stream, None)
        if self.draining and not self.partner:
            self._drained.set()

    async def until_drained(self) -> None:
        """Wait until it takes no new streams, and has no old ones."""
        await self._drained.wait()

    def _too_long(self, what: str) -> h2.exceptions.ProtocolError:
        self.h2.close_connection(Code.FRAME_SIZE_ERROR)
        return h2.exceptions.ProtocolError(f"{what} that is too long")

    def put(
        self,
        stream: int,
        *,
        headers: list[tuple[bytes, bytes]] | None = None,
        data: bytes = b"",
        end: bool = False,
        source: tuple[Side, int] | None = None,
    ) -> None:
        """Queue headers or data for a stream of this side."""
        queue = self._queues.setdefault(stream, deque())
        last = queue[-1] if queue else None
        if (
            last is not None
            and headers is None
            and last.headers is None
            and not last.end
            and last.source == source
            and len(last.data) < _TOGETHER
        ):
            last.data += data
            last.end = end
        else:
            queue.append(Item(headers, bytearray(data), end, source))
        self._ready[stream] = None
        self.wake.set()

    def open_again(self, stream: int | None) -> None:
        """A window has opened: of a stream, or (None) of the connection."""
        self._ready.update(dict.fromkeys([stream] if stream else self._queues))
        self.wake.set()

    def fill(self) -> tuple[bool, list[tuple[Side, int, int]]]:
        """Move what waits into h2, as far as windows allow: whether more could go, and what to acknowledge to whom."""
        taken: list[tuple[Side, int, int]] = []
        budget = _BUDGET
        for stream in list(self._ready):
            if budget <= 0:
                return True, taken
            del self._ready[stream]
            queue = self._queues.get(stream)
            if not queue:
                continue
            try:
                budget -= self._fill_stream(stream, queue, budget, taken)
            except GONE:
                self._forget(stream)
                continue
            if not queue:
                self._queues.pop(stream, None)
        return bool(self._ready), taken

    def _fill_stream(self, stream: int, queue: deque[Item], budget: int, taken: list[tuple[Side, int, int]]) -> int:
        moved = 0
        while queue:
            item = queue[0]
            if item.headers is not None:
                self.h2.send_headers(stream, item.headers, end_stream=item.end)
            elif item.data:
                size = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(item.data))
                if size <= 0:
                    return moved
                if moved >= budget:
                    self._ready[stream] = None
                    return moved
                self.h2.send_data(stream, bytes(item.data[:size]), end_stream=item.end and size == len(item.data))
                del item.data[:size]
                moved += size
                if item.source is not None:
                    taken.append((*item.source, size))
                if item.data:
                    continue
            elif item.end:
                self.h2.send_data(stream, b"", end_stream=True)
            queue.popleft()
        return moved

    def acknowledge(self, stream: int, size: int) -> None:
        """Open our windows by what has been taken. Nothing opens when the stream is gone."""
        self.windows.taken(stream, size)

    def reset(self, stream: int, code: int) -> None:
        """End a stream; what it had waiting is dropped, and acknowledged to whom it came from."""
        self._forget(stream)
        try:
            self.h2.reset_stream(stream, code)
        except GONE:
            return
        finally:
            self.wake.set()

    def _forget(self, stream: int) -> None:
        for item in self._queues.pop(stream, ()):
            if item.source is not None:
                item.source[0].acknowledge(item.source[1], len(item.data))

    def drop(self, stream: int) -> None:
        """The peer has reset a stream: nothing of it is sent any more."""
        self._forget(stream)

    async def send(self) -> None:
        """Send for as long as the connection lives. Raises OSError."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            more = True
            while more:
                more, taken = self.fill()
                self.collect()
                if self.out:
                    data = bytes(self.out)
                    self.out.clear()
                    self.sent.clear()
                    self.tls.write(data)
                    await self.tls.drain()
                self.sent.set()
                for side, stream, size in taken:
                    side.acknowledge(stream, size)

    def say_goodbye(self) -> None:
        """The last words: a GOAWAY, if the connection still takes one."""
        try:
            self.h2.close_connection()
            self.collect()
            self.tls.write(bytes(self.out))
        except (OSError, ValueError, *GONE):
            pass
