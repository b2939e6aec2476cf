"""A server that asks for a second ClientHello: that one is judged as the first was."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from gateway_world import client_hello, in_loop, world
from hypothesis import given
from hypothesis import strategies as st

from engine.gateway.clienthello import ClientHello, ClientHelloParser
from engine.gateway.errors import GatewayError
from engine.gateway.rules import Rule
from engine.gateway.second_hello import HelloWatch

ACCESS_DENIED = bytes([21, 3, 3, 0, 2, 2, 49])
ALLOW = Rule("api.example.com")
RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
CIPHER_CHANGE = b"\x14\x03\x03\0\1\1"
EARLY_DATA = b"\x17\x03\x03\0\x05early"
WARNING = b"\x15\x03\x03\0\x02\1\x70"
HELLO_REQUEST = b"\x16\x03\x03\0\4\0\0\0\0"


def server_hello(random: bytes) -> bytes:
    body = b"\x03\x03" + random + b"\0" + b"\x13\x01\0" + b"\0\x06\0\x2b\0\x02\x03\x04"
    message = b"\2" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x03" + len(message).to_bytes(2, "big") + message


RETRY, ANSWER = server_hello(RETRY_RANDOM), server_hello(bytes(32))
FIRST = client_hello("api.example.com")
SAME = client_hello("api.example.com")
OTHER = client_hello("evil.example.com")
NOBODY = client_hello(None)


def split(hello: bytes, size: int) -> bytes:
    """The same message in records of `size` bytes."""
    message = hello[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x03" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("prelude", [b"", CIPHER_CHANGE, EARLY_DATA, CIPHER_CHANGE + EARLY_DATA + WARNING])
@pytest.mark.parametrize("second", [OTHER, NOBODY, split(OTHER, 1), split(OTHER, 100), b"\x16\x03\x03\0\x03\x02ab"])
@pytest.mark.parametrize("asked", [True, False], ids=["after the server asked", "before"])
def test_another_name_cuts_the_connection(prelude: bytes, second: bytes, asked: bool) -> None:
    async def scenario() -> None:
        seen: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            first = await reader.read(len(FIRST))
            writer.write(RETRY)
            seen.set_result(first + await reader.read(-1))

        async with world(ALLOW, handler=upstream) as w:
            async with w.guest(443) as (reader, writer):
                writer.write(FIRST)
                if asked:
                    assert await reader.readexactly(len(RETRY)) == RETRY
                writer.write(prelude + second)
                assert (await reader.read(-1)).removeprefix(RETRY) == ACCESS_DENIED
            assert (FIRST + prelude).startswith(await seen)  # nothing of the second hello
            (line,) = await w.quiet()
        assert line["verdict"] == "refused" and line["host"] == "api.example.com"
        if second in (OTHER, split(OTHER, 100)):
            assert line["reason"] == "a further ClientHello names evil.example.com, the first api.example.com"

    in_loop(scenario())


@pytest.mark.parametrize("second", [SAME, split(SAME, 50), client_hello("API.example.com")])
def test_the_same_name_goes_on(second: bytes) -> None:
    async def scenario() -> None:
        after = b"\x16\x03\x03\0\x04\1\0\0\0" + OTHER + b"no TLS at all"  # encrypted, it may look like anything

        async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(len(FIRST))
            writer.write(WARNING + HELLO_REQUEST + RETRY + CIPHER_CHANGE)
            assert await reader.readexactly(len(CIPHER_CHANGE + second)) == CIPHER_CHANGE + second
            writer.write(ANSWER)
            assert await reader.readexactly(len(after)) == after
            writer.write(b"done")

        async with world(ALLOW, handler=upstream) as w:
            async with w.guest(443) as (reader, writer):
                writer.write(FIRST)
                await reader.readuntil(RETRY + CIPHER_CHANGE)
                writer.write(CIPHER_CHANGE + second)
                await reader.readexactly(len(ANSWER))
                writer.write(after)
                assert await reader.read(-1) == b"done"
            (line,) = await w.quiet()
        assert line["verdict"] == "allowed" and line["bytes_out"] == len(FIRST + CIPHER_CHANGE + second + after)

    in_loop(scenario())


def test_both_hellos_in_one_packet() -> None:
    async def scenario() -> None:
        async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.read(-1) in (b"", FIRST)

        async with world(ALLOW, handler=upstream) as w:
            assert await w.ask(443, FIRST + OTHER) == ACCESS_DENIED
            (line,) = await w.quiet()
            assert line["verdict"] == "refused" and "evil.example.com" in line["reason"]

    in_loop(scenario())


def collect(data: bytes, step: int, *, server: bytes = b"") -> tuple[bytes, list[str | None]]:
    """What a watch passes on of a client's bytes, and the names that it has judged."""
    names: list[str | None] = []
    watch = HelloWatch(lambda hello: names.append(hello.server_name), 16 << 10)
    for at in range(0, len(server), step):
        watch.from_server(server[at : at + step])
    passed = b"".join(watch.from_client(data[at : at + step]) for at in range(0, len(data), step))
    return passed, names


@pytest.mark.parametrize("step", [1, 3, 7, 100, 100_000])
@pytest.mark.parametrize(
    ("server", "judged"),
    [
        (b"", True),
        (RETRY, True),
        (WARNING + HELLO_REQUEST + split(RETRY, 1), True),
        (RETRY + CIPHER_CHANGE, True),
        (ANSWER, False),
        (HELLO_REQUEST + split(ANSWER, 10), False),
        (RETRY + ANSWER, False),
        (b"HTTP/1.1 400 Bad Request\r\n", False),
        (FIRST, False),  # an echo is no server of TLS
    ],
)
def test_it_reads_alike_in_any_pieces(step: int, server: bytes, judged: bool) -> None:
    data = CIPHER_CHANGE + EARLY_DATA + split(OTHER, 30) + EARLY_DATA
    assert collect(data, step, server=server) == (data, ["evil.example.com"] if judged else [])


@pytest.mark.parametrize("step", [1, 100_000])
def test_what_is_no_tls_goes_on(step: int) -> None:
    assert collect(b"more" + OTHER, step) == (b"more" + OTHER, [])
    assert collect(CIPHER_CHANGE + b"more", step) == (CIPHER_CHANGE + b"more", [])


@given(st.binary(max_size=400), st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_are_passed_or_refused(data: bytes, server: bytes, step: int) -> None:
    try:
        passed, _ = collect(data, step, server=server)
    except GatewayError:
        return
    assert data.startswith(passed)


def test_a_parser_says_what_it_has_taken() -> None:
    parser = ClientHelloParser()
    assert parser.feed(FIRST + b"behind it") == ClientHello("api.example.com") and parser.consumed == len(FIRST)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with the program openssl")
def test_a_real_server_that_asks_again(tmp_path: Path) -> None:
    """OpenSSL on both sides, of which the server wants another curve than the client has guessed."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=api.example.com"]
    subprocess.run([*argv, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificate, key)
    theirs.set_ecdh_curve("secp384r1")
    theirs.minimum_version = ssl.TLSVersion.TLSv1_3
    received = bytearray()

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = theirs.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                assert tls.read(100) == b"hello?"
                tls.write(b"indeed")
                writer.write(outgoing.read())
                return
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                data = await reader.read(65536)
                received.extend(data)
                incoming.write(data)

    async def scenario() -> None:
        ours = ssl.create_default_context()
        ours.check_hostname, ours.verify_mode = False, ssl.CERT_NONE
        async with world(ALLOW, handler=upstream) as w:
            path = str(w.gateway.sockets[443])
            reader, writer = await asyncio.open_unix_connection(path, ssl=ours, server_hostname="api.example.com")
            writer.write(b"hello?")
            assert await reader.readexactly(6) == b"indeed"
            writer.close()
            await asyncio.wait({asyncio.ensure_future(writer.wait_closed())})
            (line,) = await w.quiet()
        assert line["verdict"] == "allowed"

    in_loop(scenario())
    assert received.count(b"\x16\x03\x03") >= 1  # the second hello, so it was asked for
