"""The server that clients talk to, through the gateway: `client_vendor.py DIRECTORY ADDRESS ADDRESS-FOR-GRPC`.

HTTP/1.1 and HTTP/2 on the first address, gRPC on the second, both with the certificate in DIRECTORY. What it got is in
DIRECTORY/requests, one JSON object a line. Hosts whose name does not begin with a word of OPEN answer 401 to all that
does not carry the value of VENDOR_KEY.

Any path: says method, path and length. /sse: events, each after the one before was seen. /ws: WebSocket that answers.
Port 5432: a protocol of its own.
/acme/shop.git: a repository to fetch and push. /v2/: a registry of images. Else what is in DIRECTORY/site/HOST.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from hypercorn.asyncio import serve
from hypercorn.config import Config
from image_registry import ImageRegistry, Reply

OPEN = ("spliced", "limited", "denied", "elsewhere")
EVENTS = 3
START_S = 30.0
KEY = os.environ["VENDOR_KEY"]
ALLOWED = {f"Bearer {KEY}", "Basic " + base64.b64encode(f"x-access-token:{KEY}".encode()).decode()}


class Vendor:
    """The application; `events` says for each stream of events how many of them were seen."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.registry = ImageRegistry()
        self.events: dict[str, int] = {}
        self.moved = asyncio.Condition()
        make_repository(directory / "git/acme/shop.git")

    def record(self, **got: Any) -> None:
        with (self.directory / "requests").open("a") as file:
            file.write(json.dumps(got) + "\n")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        known = dict(headers)
        got = {"host": known["host"], "path": scope["path"], "version": scope["http_version"], "headers": headers}
        if scope["type"] == "websocket":
            self.record(method="WEBSOCKET", **got)
            await self.talk(receive, send)
            return
        body = await read_body(receive)
        self.record(method=scope["method"], length=len(body), **got)
        if not got["host"].startswith(OPEN) and known.get("authorization") not in ALLOWED:
            said = "Basic" if scope["path"].startswith("/acme/") else "Bearer"
            await respond(send, Reply(401, b"who are you?\n", {"www-authenticate": f'{said} realm="vendor"'}))
        elif scope["path"] == "/sse":
            await self.tell_events(scope["query_string"].decode(), send)
        else:
            await respond(send, await self.answer(scope, known, body))

    async def answer(self, scope: Any, headers: dict[str, str], body: bytes) -> Reply:
        method, path, query = scope["method"], scope["path"], scope["query_string"].decode()
        if path == "/seen":
            async with self.moved:
                self.events[query] = self.events.get(query, 0) + 1
                self.moved.notify_all()
        if path.startswith("/acme/shop.git/"):
            return await asyncio.to_thread(run_git, self.directory / "git", method, path, query, headers, body)
        if path.startswith("/v2/"):
            return self.registry.answer(headers["host"], method, path, query, body)
        site = (self.directory / "site" / headers["host"]).resolve()
        file = (site / path.lstrip("/")).resolve()
        if file.is_dir():
            file /= "index.html"
        if file.is_relative_to(site) and file.is_file():
            kind = {".html": "text/html", ".json": "application/json"}.get(file.suffix, "application/octet-stream")
            return Reply(200, file.read_bytes(), {"content-type": kind})
        if site.is_dir():
            return Reply(404, b"nothing here\n")
        return Reply(200, f"{method} {path} {len(body)}\n".encode(), {"content-type": "text/plain"})

    async def tell_events(self, stream: str, send: Any) -> None:
        """The next event only when the client has said, in another request, that it has seen the one before."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for number in range(EVENTS):
            await send({"type": "http.response.body", "body": f"data: {number}\n\n".encode(), "more_body": True})
            async with self.moved:
                await self.moved.wait_for(lambda seen=number: self.events.get(stream, 0) > seen)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def talk(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            if event.get("text") is not None:
                await send({"type": "websocket.send", "text": f"got {event['text']}"})
            else:
                await send({"type": "websocket.send", "bytes": event["bytes"][::-1]})


async def read_body(receive: Any) -> bytes:
    body = bytearray()
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            return bytes(body)


async def respond(send: Any, reply: Reply) -> None:
    headers = {"content-length": str(len(reply.body)), **reply.headers}
    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": lines})
    await send({"type": "http.response.body", "body": reply.body})


def make_repository(path: Path) -> None:
    path.mkdir(parents=True)
    script = (
        "git init -q --bare . && git symbolic-ref HEAD refs/heads/main && tree=$(git mktree < /dev/null) && "
        "git update-ref refs/heads/main $(git -c user.name=a -c user.email=a@b commit-tree -m first $tree)"
    )
    subprocess.run(["sh", "-c", script], cwd=path, check=True)


def run_git(root: Path, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> Reply:
    """git's own server, as a web server runs it."""
    env = {
        "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1", "REMOTE_USER": "agent",
        "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": headers.get("content-type", ""), "GIT_PROTOCOL": headers.get("git-protocol", ""),
        "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""), "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
    }  # fmt: skip
    said = subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True).stdout
    head, _, content = said.partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    status = int(fields.pop("Status", "200").split()[0])
    return Reply(status, content, {name.lower(): value for name, value in fields.items()})


class Rpc(grpc.GenericRpcHandler):
    """Messages are bytes. Unary, Stream (three answers), Chat (one for each), Fail."""

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        headers = [(str(name), str(value)) for name, value in call.invocation_metadata or ()]
        self.vendor.record(host="grpc.example.com", method="RPC", path=call.method, version="2", headers=headers)
        if dict(headers).get("authorization") not in ALLOWED:
            return grpc.unary_unary_rpc_method_handler(refuse)
        return {
            "/test.Echo/Unary": grpc.unary_unary_rpc_method_handler(lambda message, context: b"got " + message),
            "/test.Echo/Stream": grpc.unary_stream_rpc_method_handler(
                lambda message, context: (b"%d %s" % (number, message) for number in range(3))
            ),
            "/test.Echo/Chat": grpc.stream_stream_rpc_method_handler(
                lambda messages, context: (b"got " + message for message in messages)
            ),
            "/test.Echo/Fail": grpc.unary_unary_rpc_method_handler(fail),
        }.get(call.method)


def refuse(message: bytes, context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
    return b""


def fail(message: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("x-why", "asked for"),))
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such thing")
    return b""


def start_grpc(vendor: Vendor, address: str) -> grpc.Server:
    server = grpc.server(ThreadPoolExecutor(4), handlers=(Rpc(vendor),))
    pair = ((vendor.directory / "leaf.key").read_bytes(), (vendor.directory / "leaf.crt").read_bytes())
    assert server.add_secure_port(f"{address}:443", grpc.ssl_server_credentials([pair]))
    server.start()
    return server


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A protocol of its own, in which the server speaks first."""
    writer.write(b"who is there?\n")
    writer.write(b"hello " + await reader.readline())
    await writer.drain()
    writer.close()


async def wait_for_port(address: str) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection((address, 443), 5).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the server does not listen"
            await asyncio.sleep(0.05)


async def main() -> None:
    directory, address, of_grpc = Path(sys.argv[1]), *sys.argv[2:]
    vendor = Vendor(directory)
    config = Config()
    config.bind = [f"{address}:443"]
    config.certfile, config.keyfile = str(directory / "leaf.crt"), str(directory / "leaf.key")
    config.alpn_protocols = ["h2", "http/1.1"]
    config.errorlog = str(directory / "errors")
    config.include_server_header = False
    done = asyncio.Event()
    grpc_server = start_grpc(vendor, of_grpc)
    serving = asyncio.create_task(serve(vendor, config, shutdown_trigger=done.wait))
    await asyncio.start_server(greet, address, 5432)
    await wait_for_port(address)
    print("serving", flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until the other side has gone
    done.set()
    await serving
    grpc_server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
