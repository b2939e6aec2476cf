"""The server's side of TLS: whom the gateway believes to be the host, and in which protocol it speaks to it."""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from gateway_world import World, in_loop, world
from h2_world import Client, Server
from inside_world import CLOSE, HOST, SECRET_RULE, VALUE, InsideWorld, Recorder, fields_of, get, guest_authority
from server_certificates import DAY, Signer

from engine.gateway.rules import Rule


@functools.cache
def root() -> Signer:
    return Signer("the host's own")


@functools.cache
def between() -> Signer:
    return Signer("between", above=root())


@functools.cache
def company() -> Signer:
    return Signer("a company without key identifiers", plain=True)


@contextmanager
def host_trusts(directory: Path, *signers: Signer) -> Iterator[None]:
    file = directory / "bundle.pem"
    file.write_text("".join(signer.text for signer in signers))
    with mock.patch.dict(os.environ, {"SSL_CERT_FILE": str(file), "SSL_CERT_DIR": str(directory / "none")}):
        yield


class Upstream:
    """Speaks the protocol that was agreed on: records both, in one place for each."""

    def __init__(self) -> None:
        self.h1, self.h2 = Recorder(), Server()
        self.agreed: list[str | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        self.agreed.append(agreed)
        await (self.h2 if agreed == "h2" else self.h1).serve(reader, writer)

    @property
    def got(self) -> list[tuple[str, str, list[str]]]:
        """Protocol, path and Authorization of each request."""
        heads = [
            ("http/1.1", head.split()[1].decode(), fields_of(head).get("authorization", [])) for head in self.h1.heads
        ]
        return heads + [("h2", each.get(":path")[0], each.get("authorization")) for each in self.h2.requests]


def inside(plain: World) -> InsideWorld:
    return InsideWorld(plain, Recorder())


def self_signed() -> ssl.SSLContext:
    return Signer("another root").server(HOST)


def signed_by_itself() -> ssl.SSLContext:
    """The leaf is its own issuer."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from server_certificates import answering

    lonely = Signer(HOST)
    key = lonely.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return answering(key + lonely.text.encode())


def old() -> ssl.SSLContext:
    context = root().server(HOST)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


REFUSED: dict[str, tuple[Callable[[], ssl.SSLContext], str]] = {
    "another name": (lambda: root().server("other.example.com"), "Hostname mismatch"),
    "a name below": (lambda: root().server(f"x.{HOST}"), "Hostname mismatch"),
    "a wildcard for two labels": (lambda: root().server("*.com"), "Hostname mismatch"),
    "a common name only": (lambda: root().server(common_name=HOST), "Hostname mismatch"),
    "expired": (lambda: root().server(HOST, begin=-3 * DAY, end=-DAY), "certificate has expired"),
    "not yet valid": (lambda: root().server(HOST, begin=DAY, end=2 * DAY), "certificate is not yet valid"),
    "for clients": (lambda: root().server(HOST, usage=ExtendedKeyUsageOID.CLIENT_AUTH), "purpose"),
    "an unknown root": (self_signed, "unable to get local issuer certificate"),
    "signed by itself": (signed_by_itself, "self-signed certificate"),
    "a chain with a hole": (lambda: between().server(HOST, with_chain=False), "unable to get local issuer"),
    "the guest's own authority": (lambda: guest_authority().context(HOST, None), "unable to get local issuer"),
    "TLS 1.1": (old, "no TLS with api.example.com"),
}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(("server", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_server_that_is_not_verified_gets_nothing(
    server: Callable[[], ssl.SSLContext], reason: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        upstream = Upstream()
        with host_trusts(tmp_path, root()):
            async with world(
                SECRET_RULE,
                handler=upstream.serve,
                tls=server(),
                authority=guest_authority(),
                secrets=lambda name: VALUE,
            ) as plain:
                for protocols in (("http/1.1",), ("h2",)):
                    async with inside(plain).guest(alpn=protocols) as (reader, writer):
                        if protocols == ("h2",):
                            reply = await Client(reader, writer).get("/x")
                            assert reply.status == "502" and reason.encode() in reply.body
                        else:
                            writer.write(get("/x"))
                            answer = await reader.read(-1)
                            assert answer.startswith(b"HTTP/1.1 502 ") and reason.encode() in answer
                lines = await plain.quiet()
        assert [(line["verdict"], line["bytes_out"]) for line in lines] == [("failed", 0)] * 2
        assert all(reason in line["reason"] and VALUE not in repr(line) for line in lines)
        assert upstream.got == [] and upstream.h1.everything == b""

    in_loop(scenario())


ACCEPTED: dict[str, tuple[Callable[[], ssl.SSLContext], Callable[[], tuple[Signer, ...]]]] = {
    "by name": (lambda: root().server(HOST), lambda: (root(),)),
    "by a wildcard": (lambda: root().server("*.example.com"), lambda: (root(),)),
    "with a chain": (lambda: between().server(HOST), lambda: (root(),)),
    "an authority added to the bundle": (lambda: company().server(HOST), lambda: (root(), company())),
}


@pytest.mark.parametrize(("server", "trusted"), ACCEPTED.values(), ids=ACCEPTED)
def test_the_host_s_own_trust_counts(
    server: Callable[[], ssl.SSLContext], trusted: Callable[[], tuple[Signer, ...]], tmp_path: Path
) -> None:
    """SSL_CERT_FILE of the host, and an authority that no strict client would have."""

    async def scenario() -> None:
        upstream = Upstream()
        with host_trusts(tmp_path, *trusted()):
            async with world(
                SECRET_RULE,
                handler=upstream.serve,
                tls=server(),
                authority=guest_authority(),
                secrets=lambda name: VALUE,
            ) as plain:
                answer = await inside(plain).ask(get("/x", extra=CLOSE))
        assert answer.endswith(b"/x")
        assert upstream.got == [("http/1.1", "/x", [f"Bearer {VALUE}"])]

    in_loop(scenario())


@pytest.mark.parametrize("server", [("h2", "http/1.1"), ("http/1.1", "h2"), ("http/1.1",), ("h2",), ()], ids=str)
@pytest.mark.parametrize("guest", [("h2", "http/1.1"), ("http/1.1", "h2"), ("http/1.1",), ("h2",), ()], ids=str)
def test_both_sides_speak_the_same_protocol(guest: tuple[str, ...], server: tuple[str, ...], tmp_path: Path) -> None:
    """The server chooses from what the guest offers, by its own preference; the guest is offered just that."""
    common = [each for each in server if each in guest]
    agreed = common[0] if common else None
    if server and guest and not common:
        agreed = None  # OpenSSL's servers go on without; the guest then speaks HTTP/1.1, or hangs up

    async def scenario() -> None:
        upstream = Upstream()
        with host_trusts(tmp_path, root()):
            async with world(
                Rule(HOST, intercept=True),
                handler=upstream.serve,
                tls=root().server(HOST, alpn=server),
                authority=guest_authority(),
            ) as plain:
                async with inside(plain).guest(alpn=guest) as (reader, writer):
                    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == agreed
                    if agreed == "h2":
                        assert (await Client(reader, writer).get("/x")).status == "200"
                    else:
                        writer.write(get("/x", extra=CLOSE))
                        assert (await reader.read(-1)).endswith(b"/x")
        assert upstream.agreed == [agreed]
        assert upstream.got == [(agreed or "http/1.1", "/x", [])]

    in_loop(scenario())


@pytest.mark.parametrize("first", ["http/1.1", "h2"])
def test_a_server_that_changes_its_mind_between_connections(first: str, tmp_path: Path) -> None:
    """Requests never go out in another protocol than that of the guest's connection."""
    other = "h2" if first == "http/1.1" else "http/1.1"

    async def scenario() -> None:
        upstream = Upstream()
        upstream.h1.replies = {"/1": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1"}
        tls = root().server(HOST, alpn=(first, other))
        with host_trusts(tmp_path, root()):
            async with world(
                Rule(HOST, intercept=True), handler=upstream.serve, tls=tls, authority=guest_authority()
            ) as plain:
                async with inside(plain).guest(alpn=("h2", "http/1.1")) as (reader, writer):
                    if first == "h2":
                        client = Client(reader, writer)
                        assert (await client.get("/1")).status == "200"
                        tls.set_alpn_protocols([other])
                        upstream.h2.connections[0].writer.transport.abort()
                        (side,) = plain.gateway._tasks  # the guest's connection goes on
                        answers = [await client.get("/2"), await client.get("/3")]
                        assert {answer.status for answer in answers} == {"502"} and not side.done()
                        assert b"speaks no HTTP/2 any more" in answers[-1].body
                    else:
                        writer.write(get("/1"))
                        await reader.readuntil(b"\r\n\r\n1")
                        tls.set_alpn_protocols([other])
                        writer.write(get("/2", extra=CLOSE))
                        assert (await reader.read(-1)).endswith(b"/2")
                await plain.quiet()
        if first == "h2":
            assert upstream.got == [("h2", "/1", [])] and upstream.h1.everything == b""
        else:
            assert upstream.got == [("http/1.1", "/1", []), ("http/1.1", "/2", [])]
            assert upstream.agreed == ["http/1.1", None]

    in_loop(scenario())
