"""What of the gateway is fuzzed. Each target takes any bytes and raises whatever is wrong with us.

A further reader gets a function, seeds and a line in TARGETS.
"""

from __future__ import annotations

import ssl
from contextlib import suppress

from gateway_sessions import H2_SEEDS, HTTP_SEEDS, h2_session, http_session
from server_paths import ALLOWED, SERVERS, is_inside, slow_match, tokens_of, unescape
from slow_git import git_reads, judge, line, push, slowly_allowed
from slow_policy import POLICY_SEEDS, policy
from target import Target

from engine.gateway.body_checks import BodyRefused
from engine.gateway.clienthello import ClientHelloParser, MalformedHello
from engine.gateway.paths import BadTarget, allows, check_pattern, denies, read_target
from engine.gateway.pushes import Pushes
from engine.gateway.second_hello import HelloWatch

# ClientHello


def _hello(*protocols: str, name: str | None = "a.example", old: bool = False) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if old:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def _server() -> tuple[ssl.SSLContext, list[str | None]]:
    names: list[str | None] = []

    def note(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> int:
        names.append(name)
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = note  # type: ignore[assignment]
    return context, names


_OPENSSL, _NAMES = _server()


def _names_for_openssl(data: bytes) -> list[str | None]:
    incoming = ssl.MemoryBIO()
    incoming.write(data)
    _NAMES.clear()
    with suppress(ssl.SSLError, UnicodeError, ValueError):
        _OPENSSL.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    return list(_NAMES)


def _parse(data: bytes, step: int) -> object:
    parser = ClientHelloParser()
    try:
        for at in range(0, len(data), step):
            hello = parser.feed(data[at : at + step])
            if hello is not None:
                assert parser.consumed <= at + step
                return hello, parser.consumed
    except MalformedHello:
        return "malformed"
    return None


def client_hello(data: bytes) -> None:
    """Alike in any pieces; a server of OpenSSL that takes it for a hello sees the same name; it passes the watch."""
    whole = _parse(data, max(1, len(data)))
    assert whole == _parse(data, 1) == _parse(data, 7), "pieces change it"
    if isinstance(whole, tuple):
        hello, consumed = whole
        for name in _names_for_openssl(data[:consumed]):
            assert name is None or name == hello.server_name, f"OpenSSL reads {name!r}, we {hello.server_name!r}"
    for step in (1, 13, max(1, len(data))):
        watch, passed = HelloWatch(lambda hello: None, 16 << 10), b""
        with suppress(MalformedHello):
            for at in range(0, len(data), step):
                passed += watch.from_client(data[at : at + step])
                assert data.startswith(passed), "the watch changes bytes"


# Paths


def path(data: bytes) -> None:
    """A pattern, a line feed, a target: one normal form, which no server reads as anything else; matching is right."""
    first, _, second = data.partition(b"\n")
    pattern, target = first.decode("latin-1"), second.decode("latin-1")
    for strict in (False, True):
        with suppress(BadTarget):
            read = read_target(target, strict=strict)
            assert strict or read.wire == target
            if strict:
                _check_read(read.wire, pattern)


def _check_read(wire: str, pattern: str) -> None:
    again = read_target(wire, strict=True)
    assert again.wire == wire, "the normal form of a normal form is another one"
    if allows(ALLOWED, again):
        spelt = wire.partition("?")[0].encode()
        for name, read in SERVERS.items():
            assert is_inside(read(spelt)) or is_inside(unescape(read(spelt))), f"{name} reads {spelt!r} otherwise"
    with suppress(BadTarget):
        check_pattern(pattern)
        plain = "?" not in pattern and "%" not in pattern and pattern.isascii() and pattern.isprintable()
        if plain and " " not in pattern and len(pattern) < 24 and len(wire) < 64:
            tokens = tokens_of(pattern)
            slow = [slow_match(tokens, reading) for reading in again.readings]
            assert allows([pattern], again) is all(slow), "the matcher is wrong"
            if any(slow):
                assert denies([pattern], again), "a deny does not match what an allow does"


PATH_SEEDS = (
    b"/ok/**\n/ok/a%2fb;x=1/c?q=%2e%2e",
    b"/repos/me/*/issues\n/repos/me/caf%c3%a9/issues",
    b"/x/**/y*\n/x/a/b/yz",
    b"/**\n//a/../%2e%2E/%5c/%00/%252e/;x/%ef%bc%8e",
    b"/a?service=x\n/a?service=x",
    b"/*\n*",
    b"/ok/**\n/ok/../secret",
    b"/ok/**\n/ok/%2e%2e%2fsecret",
    b"/ok/**\n/ok/a;/..;x/../secret//a",
)
WORDS = tuple(
    b"/ok/ /** **/ * %2e %2F %2f %25 %5c ; .. //  ? & _method= HTTP/1.1 Host: Content-Length: Transfer-Encoding:"
    b" chunked Connection: Upgrade: websocket Authorization: Expect: 100-continue GET POST PRI OPTIONS https://".split()
)

# Pushes

A, B = b"a" * 40, b"b" * 40
AGENT = Pushes(("refs/heads/agent/*",), ("create", "update"))
PUSH_SEEDS = (
    push((A, B, b"refs/heads/agent/x")),
    push((A, B, b"refs/heads/agent/x"), (b"0" * 40, B, b"refs/heads/main")),
    push((A, b"0" * 40, b"refs/heads/agent/x"), before=line(b"shallow " + A)),
    line(b"push-cert\0") + b"0000",
    b"0000",
)


def pushed(data: bytes) -> None:
    """Of what is passed on git does nothing that is not allowed, however it comes in pieces."""
    size, body = (data[0], data[1:]) if data else (0, b"")

    def passed(pieces: list[int]) -> bytes | None:
        try:
            return judge(body, AGENT, pieces=pieces)
        except BodyRefused:
            return None

    onward = passed([size] * 8)
    assert onward in (None, body) and onward == passed([])
    if onward is not None:
        commands = git_reads(body)
        assert commands is not None and all(slowly_allowed(command, AGENT) for command in commands)


TARGETS = {
    "hello": Target(client_hello, (_hello(), _hello("h2", "http/1.1"), _hello(name=None, old=True), _hello("x" * 99))),
    "path": Target(path, PATH_SEEDS, WORDS),
    "policy": Target(policy, POLICY_SEEDS),
    "http": Target(http_session, HTTP_SEEDS, WORDS),
    "h2": Target(h2_session, H2_SEEDS),
    "push": Target(pushed, tuple(b"\x07" + seed for seed in PUSH_SEEDS), (A, B, b"0000", b"refs/heads/agent/")),
}
