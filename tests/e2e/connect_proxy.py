"""A company's proxy: `connect_proxy.py ADDRESS LOG`. It prints its port, and ends with its standard input.

It is the only one here that knows where names lead: every CONNECT goes to port 443 of ADDRESS. LOG gets a JSON object
for each: the name that was asked for, and the proxy's own user.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from functools import partial
from pathlib import Path

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


async def copy(reader: Reader, writer: Writer) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve(address: str, log: Path, reader: Reader, writer: Writer) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    method, name, _ = head.split("\r\n", 1)[0].split()
    words = [line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("proxy-authorization")]
    user = base64.b64decode(words[0].split()[1]).decode() if words else ""
    with log.open("a") as file:
        file.write(json.dumps({"method": method, "name": name, "user": user}) + "\n")
    far_reader, far_writer = await asyncio.open_connection(address, 443)
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)


async def main() -> None:
    server = await asyncio.start_server(partial(serve, sys.argv[1], Path(sys.argv[2])), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
