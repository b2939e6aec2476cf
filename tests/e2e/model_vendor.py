"""Vendors of models, for real agents: `model_vendor.py DIRECTORY ADDRESS ADDRESS`, in the network of vendor_network.py.

They play the script of model_server.py: the agent's shell tool is called with each of AGENT_COMMANDS, a JSON list, and
the results are quoted; with AGENT_UNTIL the last one again until its result has that text. Each demands its own real
key, as it stands in AGENT_KEYS, JSON: host -> [header, value]. What came with it is in DIRECTORY/requests, one JSON
object a line; what came without it in DIRECTORY/refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from model_server import Asked, ModelServer

UNTIL = os.environ.get("AGENT_UNTIL") or None
KEYS = {host: (header, value) for host, (header, value) in json.loads(os.environ["AGENT_KEYS"]).items()}


class Written(list[Any]):
    """A list whose items are written to a file, a line each, as they come."""

    def __init__(self, path: Path, show: Callable[[Any], dict[str, Any]]) -> None:
        super().__init__()
        self._path, self._show = path, show

    def append(self, item: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(self._show(item)) + "\n")


def show_asked(asked: Asked) -> dict[str, Any]:
    host = asked.fields.get("host", [""])[0]
    headers = [(name, value) for name, values in asked.fields.items() for value in values]
    return {"host": host, "path": asked.path, "over": asked.over, "headers": headers, "body": asked.body}


async def main() -> None:
    directory, address = Path(sys.argv[1]), sys.argv[2]
    model = ModelServer(("x-nobody", "has this"), KEYS, tuple(json.loads(os.environ["AGENT_COMMANDS"])), UNTIL)
    model.asked = Written(directory / "requests", show_asked)
    model.refused = Written(directory / "refused", lambda item: {"path": item[0], "headers": item[1]})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "leaf.crt", directory / "leaf.key")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await model.serve(reader, writer)
        writer.close()

    async with await asyncio.start_server(serve, address, 443, ssl=context):
        print("serving", flush=True)
        await asyncio.to_thread(sys.stdin.read)  # until the other side has gone


if __name__ == "__main__":
    asyncio.run(main())
