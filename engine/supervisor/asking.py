"""The operations with which a terminal asks the user about names that no endpoint names."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import asdict
from typing import Any

from engine.errors import EngineError
from engine.gateway.server import Gateway
from engine.gateway.waiting import Event
from engine.state.instances import load_instance, save_instance
from engine.state.layout import Layout
from vmm.channel.stream import LocalStream


class Asking:
    """Those of one sandbox. An answer that allows or denies is a temporary rule; only "not now" has an operation.

    What the guest has asked for is in the sandbox's record as long as nobody has decided about it.
    """

    def __init__(self, layout: Layout, name: str, gateway: Gateway) -> None:
        self._layout = layout
        self._name = name
        self._waiting = gateway.waiting
        self._asks = gateway.asks
        self._asks.on_change = self._record

    def _record(self) -> None:
        with contextlib.suppress(EngineError, OSError):  # such as a full disk: `ls` is behind then
            if (record := load_instance(self._layout, self._name)) is not None:
                save_instance(self._layout, record._replace(asks=[asdict(ask) for ask in self._asks.open]))

    async def watch(self, request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        """The operation `ask`: questions and their ends as JSON, one object a line, until the client goes away.

        While somebody listens, connections to unknown names are held; the first line says that this has begun.
        """
        with self._waiting.watch() as events:
            await stream.send(b'{"watching": {}}\n')
            while True:
                event = await events.get()
                await stream.send(json.dumps(_to_json(event)).encode() + b"\n")

    async def dismiss(self, request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        """The operation `dismiss`: {host, port} is refused to whoever waits for it now."""
        return {"waited": self._waiting.dismiss(str(request.get("host")), int(request.get("port") or 0))}


def _to_json(event: Event) -> dict[str, Any]:
    question = event.question
    about = {"host": question.host, "port": question.port}
    if event.why is not None:
        return {"closed": {**about, "why": event.why}}
    left = question.deadline - asyncio.get_running_loop().time()
    return {"question": {**about, "left_s": round(max(left, 0.0), 1), "why": question.why}}
