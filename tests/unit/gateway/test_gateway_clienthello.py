from __future__ import annotations

import ssl
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.gateway.clienthello import ClientHello, ClientHelloParser, MalformedHello


def real_hello(name: str | None) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def vector(prefix: int, content: bytes) -> bytes:
    return len(content).to_bytes(prefix, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, content)


def server_name(name: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, bytes([kind]) + vector(2, name)))


def hello(*extensions: bytes, tail: bytes = b"") -> bytes:
    body = b"\x03\x03" + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\0")
    body += vector(2, b"".join(extensions)) if extensions else b""
    return b"\x01" + vector(3, body + tail)


def records(message: bytes, size: int = 16384) -> bytes:
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + vector(2, piece) for piece in pieces)


def parse(data: bytes, step: int = 1 << 20) -> ClientHello | None:
    parser = ClientHelloParser()
    for at in range(0, len(data), step):
        if (found := parser.feed(data[at : at + step])) is not None:
            return found
    return None


@pytest.mark.parametrize("step", [1, 2, 5, 7, 100, 10000])
def test_a_real_hello_in_tcp_segments_of_any_size(step: int) -> None:
    assert parse(real_hello("api.example.com"), step) == ClientHello("api.example.com")
    assert parse(real_hello(None), step) == ClientHello(None)


@pytest.mark.parametrize("size", [1, 3, 4, 50])
@pytest.mark.parametrize("step", [1, 6, 10000])
def test_a_hello_spread_over_records(size: int, step: int) -> None:
    message = real_hello("api.example.com")[5:]
    assert parse(records(message, size), step) == ClientHello("api.example.com")


def test_grease_is_passed_over() -> None:
    grease = extension(0x1A1A, b"\0")
    assert parse(records(hello(grease, server_name(b"a.example.com")))) == ClientHello("a.example.com")


@pytest.mark.parametrize("kind", [0xFE0D, 0xFFCE])
def test_a_hello_that_may_carry_an_encrypted_one_is_told(kind: int) -> None:
    found = parse(records(hello(extension(kind, bytes(200)), server_name(b"outer.example.com"))))
    assert found == ClientHello("outer.example.com", hides_name=True)


def test_no_extensions_at_all() -> None:
    assert parse(records(hello())) == ClientHello(None)


def test_what_follows_in_another_record_is_not_ours() -> None:
    assert parse(records(hello(server_name(b"a.example"))) + b"\x17\x03\x03\0\x01x") == ClientHello("a.example")


@pytest.mark.parametrize(
    "data",
    [
        b"\x17\x03\x01\0\x01\x01",  # not a handshake
        b"\x16\x02",  # not TLS
        b"\x16\x03\x01\0\0",  # an empty record
        b"\x16\x03\x01\xff\xff",  # a record too long
        records(b"\x02" + bytes(40)),  # a ServerHello
        records(b"\x01\xff\xff\xff"),  # too long a message
        records(hello(server_name(b"a.example")) + b"\x01"),  # a second message in the record
        records(hello(server_name(b"a.example"), tail=b"x")),
        records(hello(server_name(b"a.example"), server_name(b"b.example"))),
        records(hello(extension(0, vector(2, (b"\0" + vector(2, b"a.example")) * 2)))),  # two names
        records(hello(extension(0, b""))),
        records(hello(extension(0, vector(2, b"")))),
        records(hello(server_name(b"a.example", kind=1))),
        records(hello(server_name(b""))),
        records(hello(server_name(b"a.example\0.b.example"))),
        records(hello(server_name("bücher.example".encode()))),
        records(hello(extension(5, b"a")[:-1])),  # cut short
    ],
)
def test_malformed(data: bytes) -> None:
    for step in (1, 1 << 20):
        with pytest.raises(MalformedHello):
            parse(data, step)


def test_a_hello_has_a_largest_size() -> None:
    large = records(hello(extension(21, bytes(16000)), server_name(b"a.example")))
    assert parse(large) == ClientHello("a.example")
    with pytest.raises(MalformedHello):
        parse(records(hello(extension(21, bytes(17000)), server_name(b"a.example"))))
    with pytest.raises(MalformedHello):
        parse(records(hello(extension(21, bytes(12000)), server_name(b"a.example")), 2))  # the headers count


@given(st.binary(max_size=600), st.integers(1, 600))
def test_any_bytes_parse_are_incomplete_or_malformed_alike_in_any_pieces(data: bytes, step: int) -> None:
    def outcome(step: int) -> object:
        try:
            return parse(b"\x16\x03\x01" + data, step)
        except MalformedHello:
            return MalformedHello

    assert outcome(step) == outcome(1)


REAL = real_hello("api.example.com")


@given(st.data())
def test_a_damaged_hello_never_does_worse_than_malformed(data: st.DataObject) -> None:
    damaged = bytearray(REAL)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(MalformedHello):
        found = parse(bytes(damaged))
        assert found is None or found.server_name is None or found.server_name.isascii()


@given(st.integers(0, len(REAL) - 1))
def test_a_cut_hello_is_incomplete(length: int) -> None:
    assert parse(REAL[:length]) is None
