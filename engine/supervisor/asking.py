"""The operations with which a terminal asks the user about names that no endpoint names."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from engine.gateway.waiting import Event, Waiting
from vmm.channel.stream import LocalStream


class Asking:
    """Those of one sandbox. An answer that allows or denies is a temporary rule; only "not now" has an operation."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting

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
    return {"question": {**about, "left_s": round(max(left, 0.0), 1)}}
