"""One HTTP/2 connection in memory: what has come already is handled in turns with everything else in the loop."""

from __future__ import annotations

import asyncio

import h2.connection
import h2.events
from memory_streams import MemoryStream

from engine.gateway.h2side import Side
from engine.gateway.limits import Limits

REQUEST = [(":method", "POST"), (":scheme", "https"), (":authority", "a.example"), (":path", "/")]
FRAMES = 4000


def test_a_flood_of_small_frames_lets_others_have_their_turn() -> None:
    """They came together, so that nothing has to be waited for between them."""
    client = h2.connection.H2Connection()
    client.initiate_connection()
    client.send_headers(1, REQUEST)
    for _ in range(FRAMES):
        client.send_data(1, b"x")
    incoming = MemoryStream([client.data_to_send()], alpn="h2")
    turns = got = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def handle(side: Side, event: h2.events.Event) -> None:
        nonlocal got
        if isinstance(event, h2.events.DataReceived):
            got += 1
            side.acknowledge(1, event.flow_controlled_length or 0)

    async def scenario() -> None:
        busy = asyncio.create_task(others())
        side = Side(incoming.tls, client=False)
        await side.read(Limits(), handle, lambda side, frame: None)
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)

    asyncio.run(scenario())
    assert got == FRAMES and turns >= FRAMES // 500
