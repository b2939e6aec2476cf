"""The outer leg through the host's upstream proxy, with real ones: what they were asked, and what a guest is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import pytest
from gateway_world import World, client_hello, echo, in_loop, world
from inside_world import CLOSE, HOST, LOOK, SECRET_RULE, VALUE, Recorder, get, inside_world, server_authority, trusting
from proxy_world import UpstreamProxy, upstream_proxy

from engine.gateway.errors import GatewayError
from engine.gateway.host_proxies import host_variables
from engine.gateway.limits import Limits
from engine.gateway.proxies import Proxies
from engine.gateway.rules import Rule

INTERNAL_ERROR = bytes([21, 3, 3, 0, 2, 2, 80])
SSH = Rule("git.example.com", 22, raw=True, origin="endpoints[0]")
PASSWORD = "s3cret-of-the-proxy"
KINDS = ("http", "socks5", "socks5h")


def through(proxy: UpstreamProxy, kind: str = "http", user: str = "", **more: str) -> Proxies:
    at = f"{user}@" if user else ""
    return Proxies({"all": f"{kind}://{at}127.0.0.1:{proxy.port}", **more})


def asked(host: str, port: int, kind: str) -> str:
    return f"CONNECT {host}:{port} HTTP/1.1" if kind.startswith("http") else f"{host}:{port}"


async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-server\r\n")
    writer.write(await reader.read(-1))


@pytest.mark.parametrize("kind", KINDS)
def test_tls_is_spliced_through_it_and_the_proxy_resolves(kind: str) -> None:
    async def scenario() -> None:
        hello = client_hello(HOST)
        async with (
            upstream_proxy(echo, user=f"me:{PASSWORD}") as proxy,
            world(Rule(HOST), proxies=through(proxy, kind, f"me:{PASSWORD}")) as w,
        ):
            assert await w.ask(443, hello + b"more", end=True) == hello + b"more"
            (line,) = await w.quiet()
            assert (proxy.asked, proxy.users) == ([asked(HOST, 443, kind)], [f"me:{PASSWORD}"])
        assert w.resolved == w.dialled == []
        assert line["verdict"] == "allowed" and PASSWORD not in json.dumps(line)

    in_loop(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_name_is_not_the_proxys_business(kind: str) -> None:
    async def scenario() -> None:
        async with upstream_proxy(echo) as proxy, world(Rule(HOST), proxies=through(proxy, kind)) as w:
            await w.ask(443, client_hello("other.example.com"))
            assert proxy.asked == []

    in_loop(scenario())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("early", [True, False])
def test_a_server_that_speaks_first_is_heard(kind: str, early: bool) -> None:
    async def scenario() -> None:
        async with (
            upstream_proxy(greeting, speaks_first=early) as proxy,
            world(SSH, proxies=through(proxy, kind)) as w,
        ):
            async with w.guest(22, SSH.host) as (reader, writer):
                assert await reader.readline() == b"SSH-2.0-server\r\n"
                writer.write(b"mine")
                writer.write_eof()
                assert await reader.read(-1) == b"mine"
            assert proxy.asked == [asked(SSH.host, 22, kind)]

    in_loop(scenario())


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
def test_interception_goes_through_it_and_verifies_the_server(kind: str) -> None:
    async def scenario() -> None:
        recorder = Recorder()
        tls = server_authority().context("localhost", None) if kind == "https" else None
        server = server_authority().context(HOST, "http/1.1")
        with trusting(server_authority().certificate):
            async with upstream_proxy(recorder.serve, tls=tls, target_tls=server) as proxy:
                proxies = Proxies({"https": f"{kind}://localhost:{proxy.port}"})
                async with inside_world(SECRET_RULE, proxies=proxies) as w:
                    assert (await w.ask(get("/v1", CLOSE))).startswith(b"HTTP/1.1 200 ")
                assert [line.split("/")[0] for line in proxy.asked] == [asked(HOST, 443, kind).split("/")[0]]
        assert f"Bearer {VALUE}".encode() in recorder.everything

    in_loop(scenario())


def test_a_proxy_with_a_certificate_that_is_not_its_own_gets_nothing() -> None:
    async def scenario() -> None:
        tls = server_authority().context("another.example.com", None)
        with trusting(server_authority().certificate):
            async with upstream_proxy(echo, tls=tls) as proxy:
                proxies = Proxies({"https": f"https://me:{PASSWORD}@localhost:{proxy.port}"})
                async with inside_world(SECRET_RULE, proxies=proxies) as w:
                    answer = await w.ask(get())
                assert proxy.asked == []
        assert answer.startswith(b"HTTP/1.1 502 ") and b"the certificate of localhost is not accepted" in answer

    in_loop(scenario())


async def say(words: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(words)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", "wants other credentials (407)"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "does not connect to api.example.com:443: 502 Bad Gateway"),
        (b"HTTP/1.1 403 \x1b[31mno\r\n\r\n", "does not connect to api.example.com:443: 403"),
        (b"HTTP/1.1 200 Conn", "hung up within its answer"),
        (b"", "hung up before its answer"),
        (b"SSH-2.0-what\r\n\r\n", "gives no HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20000, "gives no HTTP answer: its head has no end"),
        (b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", "302 Found"),
    ],
)
def test_what_else_a_proxy_answers_is_said(words: bytes, reason: str) -> None:
    async def scenario() -> None:
        async with upstream_proxy(echo, answer=lambda _, writer: say(words, writer)) as proxy:
            async with inside_world(LOOK, proxies=through(proxy, user=f"me:{PASSWORD}")) as w:
                answer = await w.ask(get())
                lines = await w.quiet()
            async with world(Rule(HOST), proxies=through(proxy, user=f"me:{PASSWORD}")) as plain:
                assert await plain.ask(443, client_hello(HOST)) == INTERNAL_ERROR
        assert answer.startswith(b"HTTP/1.1 502 ") and reason.encode() in answer
        assert reason in lines[0]["reason"] and f"the proxy 127.0.0.1:{proxy.port}" in lines[0]["reason"]
        assert PASSWORD.encode() not in answer and PASSWORD not in json.dumps(lines)

    in_loop(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_that_says_nothing_is_waited_for_so_long(kind: str) -> None:
    async def scenario() -> None:
        limits = Limits(handshake_s=0.1, connect_s=0.1)

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(-1)

        async with upstream_proxy(echo, answer=silent) as proxy:
            async with world(Rule(HOST), limits=limits, proxies=through(proxy, kind)) as w:
                assert await w.ask(443, client_hello(HOST)) == INTERNAL_ERROR
                (line,) = await w.quiet()
        assert (line["verdict"], line["how"]) == ("failed", "splice") and "did not answer: within" in line["reason"]

    in_loop(scenario())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (bytes([5, 5, 0, 1, 0, 0, 0, 0, 0, 0]), "Connection refused"),
        (bytes([5, 2, 0, 1, 0, 0, 0, 0, 0, 0]), "not allowed"),
        (bytes([5, 0, 0]), "does not connect to api.example.com:443"),
        (b"HTTP/1.1 400 Bad\r\n\r\n", "does not connect to api.example.com:443"),
    ],
)
def test_what_else_a_socks_proxy_answers_is_said(words: bytes, reason: str) -> None:
    async def scenario() -> None:
        async with upstream_proxy(echo, answer=lambda _, writer: say(words, writer)) as proxy:
            async with world(Rule(HOST), proxies=through(proxy, "socks5")) as w:
                assert await w.ask(443, client_hello(HOST)) == INTERNAL_ERROR
                (line,) = await w.quiet()
        assert reason in line["reason"]

    in_loop(scenario())


@pytest.mark.parametrize("user", ["", f"me:not-{PASSWORD}"])
def test_a_socks_proxy_that_wants_other_credentials(user: str) -> None:
    async def scenario() -> None:
        async with upstream_proxy(echo, user=f"me:{PASSWORD}") as proxy:
            async with world(Rule(HOST), proxies=through(proxy, "socks5", user)) as w:
                assert await w.ask(443, client_hello(HOST)) == INTERNAL_ERROR
                (line,) = await w.quiet()
        assert "does not connect to api.example.com:443" in line["reason"] and PASSWORD not in line["reason"]

    in_loop(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_that_is_not_there(kind: str) -> None:
    async def scenario() -> None:
        async with upstream_proxy(echo) as proxy:
            pass
        async with world(Rule(HOST), proxies=through(proxy, kind)) as w:
            assert await w.ask(443, client_hello(HOST)) == INTERNAL_ERROR
            (line,) = await w.quiet()
        assert f"cannot connect to the proxy 127.0.0.1:{proxy.port}" in line["reason"]

    in_loop(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_a_port_of_the_sandbox_itself_is_no_proxy(kind: str) -> None:
    async def scenario() -> None:
        async with upstream_proxy(echo) as proxy:
            own = Proxies({"all": f"{kind}://me:{PASSWORD}@localhost:{proxy.port}"}, lambda: {proxy.port})
            async with world(Rule(HOST), proxies=own) as w:
                assert await w.ask(443, client_hello(HOST)) == INTERNAL_ERROR
                (line,) = await w.quiet()
            assert proxy.asked == proxy.users == []
        assert "is a published port of this sandbox itself" in line["reason"]

    in_loop(scenario())


def test_no_proxy_and_services_of_the_host_go_without() -> None:
    async def scenario() -> None:
        local = Rule("ollama", 11434, target="localhost", raw=True)
        async with (
            upstream_proxy(echo) as proxy,
            world(Rule(HOST), local, handler=echo, proxies=through(proxy, no="other.test, .example.com")) as w,
        ):
            await hears_itself(w, 443, None, client_hello(HOST))
            await hears_itself(w, 11434, "ollama", b"x")
            assert proxy.asked == []
        assert [port for _, port in w.dialled] == [443, 11434]

    in_loop(scenario())


async def hears_itself(w: World, port: int, name: str | None, words: bytes) -> None:
    async with w.guest(port, name) as (reader, writer):
        writer.write(words)
        assert await reader.readexactly(len(words)) == words


def test_plain_http_goes_through_it() -> None:
    async def scenario() -> None:
        recorder = Recorder()
        async with upstream_proxy(recorder.serve) as proxy:
            async with world(Rule(HOST), proxies=Proxies({"http": f"127.0.0.1:{proxy.port}"})) as w:
                assert b"200 Fine" in await w.ask(80, get("/x", CLOSE))
                assert proxy.asked == [f"CONNECT {HOST}:80 HTTP/1.1"]
        assert recorder.heads[0].startswith(b"GET /x HTTP/1.1\r\n")

    in_loop(scenario())


@pytest.mark.parametrize(
    ("variables", "host", "protocol", "expected"),
    [
        ({"https": "http://p:1"}, "a.b", "tls", "p"),
        ({"https": "http://p:1"}, "a.b", "http", None),
        ({"https": "http://p:1"}, "a.b", "tcp", None),
        ({"all": "socks5://s:1", "https": "http://p:1"}, "a.b", "tls", "p"),
        ({"all": "socks5://s:1", "https": "http://p:1"}, "a.b", "http", "s"),
        ({"all": "socks5://s:1"}, "a.b", "tcp", "s"),
        ({"all": "socks5://s:1", "no": "*"}, "a.b", "tcp", None),
        ({"all": "p:1", "no": "a.b"}, "a.b", "tls", None),
        ({"all": "p:1", "no": "a.b"}, "x.a.b", "tls", None),
        ({"all": "p:1", "no": "a.b"}, "xa.b", "tls", "p"),
        ({"all": "p:1", "no": "*.a.b c.d"}, "x.a.b", "tls", None),
        ({"all": "p:1", "no": "localhost,127.0.0.0/8, ,"}, "a.b", "tls", "p"),
        ({"all": "p:1", "no": "A.B."}, "a.b", "tls", None),
    ],
)
def test_which_proxy_is_for_what(variables: Mapping[str, str], host: str, protocol: str, expected: str | None) -> None:
    proxy = Proxies(variables).of(host, protocol)
    assert (proxy.host if proxy else None) == expected


def test_the_variables_of_an_environment() -> None:
    found = host_variables({"HTTPS_PROXY": "big", "https_proxy": "small", "NO_PROXY": " a ", "ALL_PROXY": "", "X": "y"})
    assert found == {"https": "small", "no": "a"}
    assert host_variables({"HTTPS_PROXY": "big", "https_proxy": ""}) == {}, "an empty one in lower case means none"


@pytest.mark.parametrize(
    "url",
    [f"ftp://me:{PASSWORD}@p:1", f"socks4://me:{PASSWORD}@p", f"http://me:{PASSWORD}@p:port", f"http://me:{PASSWORD}@",
     f"http://me:{PASSWORD}@[::1", f"http://me:{PASSWORD}@:80"],
)  # fmt: skip
def test_a_variable_that_is_no_proxy_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(GatewayError) as caught:
        Proxies({"https": url})
    assert "HTTPS_PROXY" in caught.value.brief and PASSWORD not in f"{caught.value} {caught.value.details}"


def test_a_proxy_shows_no_credentials() -> None:
    proxy = Proxies({"all": f"http://me%40corp:p%3A{PASSWORD}@proxy.example.com:3128"}).of("a.b", "tls")
    assert proxy is not None and (proxy.user, proxy.password) == ("me@corp", f"p:{PASSWORD}")
    assert PASSWORD not in f"{proxy} {proxy!r}" and "corp" not in f"{proxy} {proxy!r}"
