"""Token endpoints: what the vendor got, what the guest got, and what was kept."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Mapping
from urllib.parse import parse_qs, urlencode

import pytest
from gateway_world import in_loop, until
from inside_world import CLOSE, HOST, InsideWorld, fields_of, get, inside_world, server_authority

from engine.gateway.rules import Renewal, Rule
from engine.secrets.rules import renewal_rule

ACCESS, REFRESH = "sk-ant-oat01-real-0123456789", "sk-ant-ort01-real-0123456789"
NEW_ACCESS, NEW_REFRESH = "sk-ant-oat01-new-9876543210", "sk-ant-ort01-new-9876543210"
HELD_ACCESS, HELD_REFRESH = "sk-ant-oat01-proxy-managed", "sk-ant-ort01-proxy-managed"
RENEWAL = Renewal(
    "login",
    "login@refresh",
    HELD_REFRESH,
    answered=(
        ("access_token", "access", HELD_ACCESS),
        ("refresh_token", "refresh", HELD_REFRESH),
        ("id_token", "identity", "proxy-managed"),
    ),
)
TOKENS = Rule(HOST, 443, methods=("POST",), paths=("/v1/oauth/token",), renewal=RENEWAL, origin="endpoints[0]")
ASK = {"grant_type": "refresh_token", "refresh_token": HELD_REFRESH, "client_id": "9d1c250a"}
ANSWER = {"access_token": NEW_ACCESS, "refresh_token": NEW_REFRESH, "expires_in": 28800, "token_type": "Bearer"}
EVERY_REAL = [each.encode() for each in (ACCESS, REFRESH, NEW_ACCESS, NEW_REFRESH)]

FORM = "application/x-www-form-urlencoded"
JSON = "Content-Type: application/json; charset=utf-8\r\n"


class Kept:
    """What a vault does, for one login."""

    def __init__(self) -> None:
        self.values = {"login": ACCESS, "login@refresh": REFRESH}
        self.taken: list[Mapping[str, str]] = []

    async def keep(self, values: Mapping[str, str]) -> None:
        self.taken.append(values)
        self.values.update(values)


def post(body: bytes, media: str = "application/json", extra: str = "", path: str = "/v1/oauth/token") -> bytes:
    length = "" if "Transfer-Encoding" in extra else f"Content-Length: {len(body)}\r\n"
    return get(path, f"Content-Type: {media}\r\n{length}{extra}{CLOSE}", method="POST") + body


def reply(body: bytes, extra: str = JSON, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answered(value: object = ANSWER) -> dict[str, bytes]:
    return {"/v1/oauth/token": reply(json.dumps(value).encode())}


async def renew(w: InsideWorld, kept: Kept, request: bytes) -> tuple[bytes, bytes]:
    w.plain.gateway.arm(keep=kept.keep)
    head, _, body = (await w.ask(request)).partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize("form", ["json", "form", "chunked"])
def test_a_login_is_renewed_and_the_guest_has_placeholders_before_and_after(form: str) -> None:
    kept = Kept()
    body = json.dumps(ASK).encode()
    request = post(body)
    if form == "form":
        request = post(urlencode(ASK).encode(), FORM)
    elif form == "chunked":
        pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        request = post(pieces, extra="Transfer-Encoding: chunked\r\n")

    async def scenario() -> None:
        async with inside_world(TOKENS, secrets=lambda name: kept.values.get(name), replies=answered()) as w:
            w.plain.gateway.arm(keep=kept.keep)
            answer = await w.ask(request)
            (line,) = await w.quiet()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert json.loads(body) == {**ANSWER, "access_token": HELD_ACCESS, "refresh_token": HELD_REFRESH}
        assert fields_of(head)["content-length"] == [str(len(body))]
        ((sent_head, sent),) = w.recorder.requests
        got = {n: v[0] for n, v in parse_qs(sent.decode()).items()} if form == "form" else json.loads(sent)
        assert got == {**ASK, "refresh_token": REFRESH}
        assert fields_of(sent_head)["content-length"] == [str(len(sent))]
        assert HELD_REFRESH.encode() not in w.recorder.everything and ACCESS.encode() not in w.recorder.everything
        assert kept.taken == [{"login": NEW_ACCESS, "login@refresh": NEW_REFRESH}]
        assert not any(each in answer or each.decode() in repr(line) for each in EVERY_REAL)
        assert line["verdict"] == "allowed"

    in_loop(scenario())


def test_claims_of_an_identity_stay_readable_and_worth_nothing() -> None:
    claims = base64.urlsafe_b64encode(b'{"email":"a@b.example"}').decode().rstrip("=")
    answer = {
        **ANSWER,
        "id_token": f"eyJhbGciOiJSUzI1NiJ9.{claims}.c2lnbmF0dXJl",
        "nested": {"device_secret": "dddddddd"},
    }
    kept = Kept()

    async def scenario() -> None:
        async with inside_world(TOKENS, secrets=lambda name: kept.values.get(name), replies=answered(answer)) as w:
            _, body = await renew(w, kept, post(json.dumps(ASK).encode()))
        found = json.loads(body)
        assert found["id_token"] == f"eyJhbGciOiJSUzI1NiJ9.{claims}.proxy-managed"
        assert found["nested"] == {"device_secret": "********"}

    in_loop(scenario())


SEVERAL = json.dumps(ANSWER).encode()
UNMASKABLE = {
    "too long": reply(json.dumps({**ANSWER, "more": "x" * (300 << 10)}).encode()),
    "no content type": reply(SEVERAL, ""),
    "html": reply(b"<p>" + SEVERAL, "Content-Type: text/html\r\n"),
    "another character set": reply(SEVERAL.decode().encode("utf-16"), JSON.replace("utf-8", "utf-16")),
    "no JSON": reply(SEVERAL[:-1]),
    "a list": reply(b"[" + SEVERAL + b"]"),
    "two of one name": reply(SEVERAL[:-1] + b', "access_token": "sk-ant-oat01-another-012345"}'),
    "two tokens": reply(json.dumps({**ANSWER, "more": {"access_token": "sk-ant-oat01-another-0123"}}).encode()),
    "no text": reply(json.dumps({**ANSWER, "access_token": [NEW_ACCESS]}).encode()),
    "no token": reply(b'{"fine": true}'),
    "a token with a line end": reply(json.dumps({**ANSWER, "access_token": f"{NEW_ACCESS}\r\nX: y"}).encode()),
    "brotli": reply(SEVERAL, "Content-Type: application/json\r\nContent-Encoding: br\r\n"),
    "gzip that is none": reply(SEVERAL, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n"),
    "deep": reply(b'{"a":' * 200 + SEVERAL + b"}" * 200),
    "html and an error": reply(b"<p>" + NEW_ACCESS.encode(), "Content-Type: text/html\r\n", "500 Oh"),
    "cut": reply(SEVERAL).replace(b"Content-Length: ", b"Content-Length: 9"),
}


@pytest.mark.parametrize("answer", UNMASKABLE.values(), ids=UNMASKABLE)
def test_an_answer_that_cannot_be_masked_does_not_arrive(answer: bytes) -> None:
    kept = Kept()

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    async def scenario() -> None:
        async with inside_world(TOKENS, secrets=lambda name: kept.values.get(name), handler=cut) as w:
            head, body = await renew(w, kept, post(json.dumps(ASK).encode()))
            (line,) = await w.quiet()
        assert head.startswith(b"HTTP/1.1 502 ") and line["verdict"] in ("refused", "failed"), line
        assert "mask" in line["reason"] or "malformed answer" in line["reason"]
        assert not any(each in head + body or each.decode() in repr(line) for each in EVERY_REAL)
        assert kept.taken == []

    in_loop(scenario())


def test_packed_and_refusing_answers_are_masked_too_and_cookies_do_not_arrive() -> None:
    kept = Kept()
    packed = reply(
        gzip.compress(SEVERAL),
        f"Content-Type: application/json\r\nContent-Encoding: gzip\r\nSet-Cookie: sessionKey={NEW_ACCESS}\r\n",
    )
    refusing = reply(
        json.dumps({"error": "invalid_grant", "error_description": f"{REFRESH} is old"}).encode(), status="400 Bad"
    )

    async def scenario() -> None:
        for answer in (packed, refusing):
            async with inside_world(
                TOKENS, secrets=lambda name: kept.values.get(name), replies={"/v1/oauth/token": answer}
            ) as w:
                head, body = await renew(w, kept, post(json.dumps(ASK).encode()))
            assert b"ookie" not in head and b"ontent-encoding" not in head.lower()
            assert not any(each in head + body for each in EVERY_REAL)
            if answer is packed:
                assert json.loads(body)["access_token"] == HELD_ACCESS
                kept.values.update(login=ACCESS, **{"login@refresh": REFRESH})
            else:
                assert head.startswith(b"HTTP/1.1 400 ") and json.loads(body)["error"] == "invalid_grant"

    in_loop(scenario())


REFUSED = {
    "another token": post(json.dumps({**ASK, "refresh_token": "sk-ant-ort01-the-guest-s-own"}).encode()),
    "a login": post(json.dumps({"grant_type": "authorization_code", "code": "x"}).encode()),
    "an exchange": post(json.dumps({**ASK, "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange"}).encode()),
    "two grants": post(
        urlencode([*ASK.items(), ("grant_type", "password")]).encode(), "application/x-www-form-urlencoded"
    ),
    "two of one name": post(json.dumps(ASK).encode()[:-1] + b',"refresh_token":"x"}'),
    "packed": post(gzip.compress(json.dumps(ASK).encode()), extra="Content-Encoding: gzip\r\n"),
    "plain text": post(json.dumps(ASK).encode(), "text/plain"),
    "a list": post(json.dumps([ASK]).encode()),
    "nothing": post(b""),
    "too long": post(json.dumps({**ASK, "x": "x" * (65 << 10)}).encode()),
    "another path": post(json.dumps(ASK).encode(), path="/v1/oauth/tokens"),
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_a_token_endpoint_is_for_renewing_our_login_and_nothing_else(request_: bytes) -> None:
    kept = Kept()

    async def scenario() -> None:
        async with inside_world(TOKENS, secrets=lambda name: kept.values.get(name), replies=answered()) as w:
            head, _ = await renew(w, kept, request_)
            (line,) = await w.quiet()
        assert head[9:12] in (b"403", b"413") and line["verdict"] == "refused"
        assert w.recorder.everything == b"" and kept.taken == []

    in_loop(scenario())


def test_a_login_that_was_removed_is_not_renewed_and_the_guest_is_told_what_to_do() -> None:
    kept = Kept()
    del kept.values["login@refresh"]

    async def scenario() -> None:
        async with inside_world(TOKENS, secrets=lambda name: kept.values.get(name), replies=answered()) as w:
            head, body = await renew(w, kept, post(json.dumps(ASK).encode()))
        assert head.startswith(b"HTTP/1.1 403 ") and b"sandbox secret set login@refresh" in body
        assert w.recorder.everything == b""

    in_loop(scenario())


def test_without_tls_nothing_goes_out() -> None:
    kept = Kept()

    async def scenario() -> None:
        everywhere = Rule(HOST, methods=("POST",), paths=("/v1/oauth/token",), renewal=RENEWAL)
        async with inside_world(everywhere, secrets=lambda name: kept.values.get(name)) as w:
            answer = await w.plain.ask(80, post(json.dumps(ASK).encode()))
        assert answer.startswith(b"HTTP/1.1 403 ") and b"by TLS only" in answer and w.recorder.everything == b""

    in_loop(scenario())


def test_two_that_renew_one_login_go_one_after_the_other() -> None:
    """The second has the token that the first one got: the old one would be taken for a stolen one."""
    kept = Kept()
    answer_now = asyncio.Event()
    got: list[str] = []

    async def vendor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(fields_of(head)["content-length"][0]))
        got.append(json.loads(body)["refresh_token"])
        await answer_now.wait()
        number = len(got)
        tokens = {"access_token": f"{NEW_ACCESS}-{number}", "refresh_token": f"{NEW_REFRESH}-{number}"}
        writer.write(reply(json.dumps(tokens).encode()))
        await writer.drain()

    async def scenario() -> None:
        async with inside_world(TOKENS, secrets=lambda name: kept.values.get(name), handler=vendor) as w:
            request = post(json.dumps(ASK).encode())
            both = [asyncio.create_task(renew(w, kept, request)) for _ in range(2)]
            await until(lambda: len(got) == 1 and w.plain.gateway.connections == 2)
            assert len(w.plain.dialled) <= 2 and got == [REFRESH]
            answer_now.set()
            for task in both:
                head, body = await task
                assert head.startswith(b"HTTP/1.1 200 ") and json.loads(body)["access_token"] == HELD_ACCESS
        assert got == [REFRESH, f"{NEW_REFRESH}-1"]
        assert kept.values == {"login": f"{NEW_ACCESS}-2", "login@refresh": f"{NEW_REFRESH}-2"}

    in_loop(scenario())


def test_http_2_is_not_offered_where_bodies_have_to_be_whole() -> None:
    kept = Kept()

    async def scenario() -> None:
        both = server_authority().context(HOST, "both")  # contexts are kept, and this one is changed
        both.set_alpn_protocols(["h2", "http/1.1"])
        async with inside_world(TOKENS, secrets=lambda name: kept.values.get(name), server=both) as w:
            async with w.guest(alpn=("h2", "http/1.1")) as (_, writer):
                assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        assert w.recorder.alpn == ["http/1.1"]

    in_loop(scenario())


def test_the_rules_of_vendors() -> None:
    rule = renewal_rule("anthropic", "api.anthropic.com", "oauth", "endpoints[0]", "Sandboxfile.yaml:3")
    assert rule is not None and rule.renewal is not None
    assert (rule.host, rule.port, rule.methods, rule.paths) == (
        "platform.claude.com",
        443,
        ("POST",),
        ("/v1/oauth/token",),
    )
    assert rule.renewal.placeholder == HELD_REFRESH and rule.renewal.answered == RENEWAL.answered
    assert (rule.renewal.secret, rule.renewal.renewing) == ("anthropic", "anthropic@refresh")
    assert renewal_rule("anthropic", "api.anthropic.com", "key", "", "") is None
