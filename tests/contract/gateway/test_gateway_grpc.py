"""gRPC as its own library speaks it: every kind of call, errors, deadlines, what is cancelled."""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from gateway_world import in_loop, world
from inside_world import HELD, HOST, SECRET_RULE, VALUE, guest_authority, trusting
from server_certificates import Signer

from vmm.connection import drop, pump

DEADLINE_S = 15.0


@functools.cache
def root() -> Signer:
    return Signer("the servers of the test")


class Service(grpc.GenericRpcHandler):
    """Bytes in, bytes out; remembers the metadata of each call, and when one was given up."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.given_up = threading.Event()

    def service(self, details: Any) -> Any:
        self.calls.append((details.method, {key: value for key, value in details.invocation_metadata}))
        kinds: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
            "/test/Unary": (grpc.unary_unary_rpc_method_handler, lambda data, call: data[::-1]),
            "/test/Down": (grpc.unary_stream_rpc_method_handler, self.down),
            "/test/Up": (grpc.stream_unary_rpc_method_handler, lambda pieces, call: b"%d" % sum(map(len, pieces))),
            "/test/Both": (grpc.stream_stream_rpc_method_handler, self.both),
            "/test/Fails": (grpc.unary_unary_rpc_method_handler, self.fails),
            "/test/Hangs": (grpc.unary_stream_rpc_method_handler, self.hangs),
        }
        make, behaviour = kinds[details.method]
        return make(behaviour)

    def down(self, data: bytes, call: Any) -> Iterator[bytes]:
        for _ in range(20):
            yield data * (1 << 16)
        call.set_trailing_metadata((("x-sum", "20"),))

    def both(self, pieces: Iterator[bytes], call: Any) -> Iterator[bytes]:
        for piece in pieces:
            yield piece + b"!"

    def fails(self, data: bytes, call: Any) -> bytes:
        call.set_trailing_metadata((("x-why", "because"),))
        call.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: ü")
        return b""

    def hangs(self, data: bytes, call: Any) -> Iterator[bytes]:
        call.add_callback(self.given_up.set)
        yield b"first"
        self.given_up.wait(DEADLINE_S)


@asynccontextmanager
async def channel_to(service: Service) -> AsyncIterator[grpc.Channel]:
    """A client inside the guest; the server is a real one."""
    pool = ThreadPoolExecutor(8)
    server = grpc.server(pool, handlers=(service,))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([root().issue(HOST)]))
    server.start()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer), return_exceptions=True)
        finally:
            drop(there_writer)

    try:
        with trusting(root().text):
            async with world(SECRET_RULE, handler=relay, authority=guest_authority(), secrets=lambda name: VALUE) as w:
                credentials = grpc.ssl_channel_credentials(guest_authority().certificate.encode())
                options = (("grpc.ssl_target_name_override", HOST), ("grpc.default_authority", HOST))
                with grpc.secure_channel(f"unix:{w.gateway.sockets[443]}", credentials, options) as channel:
                    yield channel
                lines = await w.quiet()
        for path, metadata in service.calls:
            assert metadata["authorization"] == f"Bearer {VALUE}" and HELD not in repr(metadata), path
        assert sorted(line["path"] for line in lines) == sorted(path for path, _ in service.calls)
        assert VALUE not in repr(lines)
    finally:
        await asyncio.to_thread(lambda: server.stop(None).wait(DEADLINE_S))
        pool.shutdown()


KEY = (("authorization", f"Bearer {HELD}"), ("x-mine", "yes"))


def call(channel: grpc.Channel, kind: str, name: str, data: Any, **options: Any) -> Any:
    return getattr(channel, kind)(f"/test/{name}")(data, metadata=KEY, timeout=options.pop("timeout", DEADLINE_S))


def test_calls_of_every_kind() -> None:
    async def scenario() -> None:
        service = Service()
        async with channel_to(service) as channel:

            def calls() -> None:
                assert call(channel, "unary_unary", "Unary", b"abc") == b"cba"
                down = call(channel, "unary_stream", "Down", b"0123456789abcdef")
                assert [len(piece) for piece in down] == [1 << 20] * 20
                assert dict(down.trailing_metadata())["x-sum"] == "20"
                pieces = (bytes(1 << 20) for _ in range(10))
                assert call(channel, "stream_unary", "Up", pieces) == b"%d" % (10 << 20)
                said: queue.SimpleQueue[bytes] = queue.SimpleQueue()
                both = call(channel, "stream_stream", "Both", iter(said.get, b""))
                for number in range(20):  # each answer is waited for before the next is sent
                    said.put(b"%d" % number)
                    assert next(both) == b"%d!" % number
                said.put(b"")
                assert list(both) == []

            await asyncio.to_thread(calls)
        assert [path for path, _ in service.calls] == ["/test/Unary", "/test/Down", "/test/Up", "/test/Both"]
        assert all(metadata["x-mine"] == "yes" for _, metadata in service.calls)

    in_loop(scenario())


def test_an_error_comes_with_its_status_and_trailers() -> None:
    async def scenario() -> None:
        async with channel_to(Service()) as channel:

            def calls() -> None:
                with pytest.raises(grpc.RpcError) as failed:
                    call(channel, "unary_unary", "Fails", b"abc")
                error: Any = failed.value
                assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not now: ü")
                assert dict(error.trailing_metadata())["x-why"] == "because"

            await asyncio.to_thread(calls)

    in_loop(scenario())


@pytest.mark.parametrize("how", ["deadline", "cancel"])
def test_what_the_guest_gives_up_the_server_gives_up(how: str) -> None:
    async def scenario() -> None:
        service = Service()
        async with channel_to(service) as channel:

            def calls() -> None:
                hanging = call(channel, "unary_stream", "Hangs", b"", timeout=1.0 if how == "deadline" else DEADLINE_S)
                assert next(hanging) == b"first"
                if how == "cancel":
                    hanging.cancel()
                with pytest.raises(grpc.RpcError):
                    next(hanging)
                wanted = grpc.StatusCode.DEADLINE_EXCEEDED if how == "deadline" else grpc.StatusCode.CANCELLED
                assert hanging.code() is wanted
                assert service.given_up.wait(DEADLINE_S)

            await asyncio.to_thread(calls)

    in_loop(scenario())
