"""Requests that are changed on the way: AWS signatures, values in queries and bodies. What the server got."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import re
from urllib.parse import quote

import pytest
from gateway_world import in_loop
from h2_world import Server, h2_guest, head
from inside_world import CLOSE, HOST, LOOK, SECRET_RULE, fields_of, get, inside_world, server_authority

from engine.gateway.policy import Policy
from engine.gateway.rules import Injection, Rule, Substitution

KEY_ID, SECRET, TOKEN = "AKIAREAL000000000000", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session-token-0123456789"
HELD_ID = "AKIAPROXYMANAGED0000"
AWS = Injection("aws", "authorization", "sigv4", drop=("x-amz-security-token",), placeholders=(HELD_ID,))
AWS_RULE = Rule(HOST, injections=(AWS,), origin="endpoints[0]")
VALUE, HELD = 'a&b="c/d+é'.replace("é", "e") + "-0123456789", "proxy-managed-weather"


def aws_secrets(name: str) -> str | None:
    return f"{KEY_ID}:{SECRET}:{TOKEN}" if name == "aws" else None


def signed(service: str, names: str) -> str:
    scope = f"{HELD_ID}/20200101/us-east-1/{service}/aws4_request"
    signature = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={'0' * 64}"
    return f"Authorization: {signature}\r\nX-Amz-Date: 20200101T000000Z\r\n"


def check_signature(got: bytes, body: bytes) -> dict[str, list[str]]:
    """As the server does, which has the real keys: raises AssertionError for a wrong signature."""
    request_line = got.decode().split("\r\n")[0]
    method, target, _ = request_line.split(" ")
    fields = fields_of(got)
    (authorization,) = fields["authorization"]
    match = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8})/([\w-]+)/(\w+)/aws4_request, SignedHeaders=(\S+), Signature=(\w+)",
        authorization,
    )
    assert match is not None
    key_id, date, region, service, names, signature = match.groups()
    (stamp,) = fields["x-amz-date"]
    assert key_id == KEY_ID and stamp.startswith(date) and fields["x-amz-security-token"] == [TOKEN]
    path, _, query = target.partition("?")
    digest = fields.get("x-amz-content-sha256", [hashlib.sha256(body).hexdigest()])[0]
    lines = "".join(f"{name}:{' '.join(fields[name][0].split())}\n" for name in names.split(";"))
    canonical_path = path if service == "s3" else quote(path, safe="/-_.~")
    canonical = f"{method}\n{canonical_path}\n{query}\n{lines}\n{names}\n{digest}"
    scope = f"{date}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{SECRET}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    assert hmac.digest(key, text.encode(), "sha256").hex() == signature
    assert "host" in names.split(";") and HELD_ID not in got.decode()
    return fields


def test_a_request_to_bedrock_is_signed_with_the_real_key() -> None:
    body = b'{"messages":[]}'
    chunked = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    names = "content-type;host;x-amz-date;x-amz-security-token"
    first = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{signed('bedrock', names)}"
    second = f"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n{signed('bedrock', names)}{CLOSE}"
    path = "/model/anthropic.claude%3A0/converse"

    async def scenario() -> None:
        async with inside_world(AWS_RULE, secrets=aws_secrets) as w:
            request = get(path, first, method="POST") + body + get(path, second, method="POST") + chunked
            answer = await w.ask(request)
            journal = repr(await w.quiet())
        assert answer.count(b"HTTP/1.1 200 ") == 2
        assert len(w.recorder.requests) == 2 and len(w.recorder.received) == 1
        for got, sent in w.recorder.requests:
            fields = check_signature(got, sent)
            assert sent == body and fields["content-length"] == [str(len(body))]
        everything = w.recorder.everything.decode() + journal + answer.decode()
        assert SECRET not in everything and TOKEN not in journal + answer.decode()

    in_loop(scenario())


@pytest.mark.parametrize("digest", ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "given"])
def test_an_upload_to_s3_is_signed_and_goes_on_as_it_comes(digest: str) -> None:
    body = b"x" * 3_000_000
    said = hashlib.sha256(body).hexdigest() if digest == "given" else digest
    extra = f"x-amz-content-sha256: {said}\r\nContent-Length: {len(body)}\r\nContent-Encoding: aws-chunked\r\n"
    extra += signed("s3", "host;x-amz-content-sha256;x-amz-date") + CLOSE

    async def scenario() -> None:
        async with inside_world(AWS_RULE, secrets=aws_secrets) as w:
            answer = await w.ask(get("/a%20b/c.txt?acl=&versionId=1", extra, method="PUT") + body)
        assert answer.startswith(b"HTTP/1.1 200 ")
        ((got, sent),) = w.recorder.requests
        check_signature(got, sent)
        assert sent == body

    in_loop(scenario())


def test_a_signature_that_cannot_be_made_anew_is_refused_and_says_why() -> None:
    extra = "x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\nContent-Length: 0\r\n" + signed("s3", "host")
    presigned = f"/x?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={HELD_ID}%2F20200101&X-Amz-Signature=0"

    async def scenario() -> None:
        for request, why in ((get("/x", extra, method="PUT"), b"one by one"), (get(presigned), b"URL that was signed")):
            async with inside_world(AWS_RULE, secrets=aws_secrets) as w:
                answer = await w.ask(request)
                (line,) = await w.quiet()
            assert answer.startswith(b"HTTP/1.1 403 ") and why in answer and line["verdict"] == "refused"
            assert w.recorder.everything == b""
        async with inside_world(AWS_RULE, secrets=aws_secrets) as w:  # a token of the guest's is another credential
            answer = await w.ask(get("/x", signed("sts", "host") + "X-Amz-Security-Token: stolen\r\n"))
        assert b"not the sandbox's own" in answer and w.recorder.everything == b""
        async with inside_world(AWS_RULE, secrets={"aws": SECRET}.get) as w:
            answer = await w.ask(get("/x", signed("sts", "host")))
        assert answer.startswith(b"HTTP/1.1 403 ") and b"no pair of AWS keys" in answer
        assert SECRET.encode() not in answer and w.recorder.everything == b""

    in_loop(scenario())


def test_the_secret_key_in_an_answer_is_overwritten_and_its_identity_is_not() -> None:
    body = f"{SECRET} {TOKEN} {KEY_ID}".encode()
    replies = {"/": b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)}

    async def scenario() -> None:
        async with inside_world(AWS_RULE, secrets=aws_secrets, replies=replies) as w:
            answer = await w.ask(get("/", signed("sts", "host") + CLOSE))
        assert SECRET.encode() not in answer and TOKEN.encode() not in answer and KEY_ID.encode() in answer

    in_loop(scenario())


WEATHER = Substitution("weather", HELD, query=True, body=True)
WEATHER_RULE = Rule(HOST, substitutions=(WEATHER,), origin="endpoints[0]")
SECRETS = {"weather": VALUE}.get


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        (f"/w?q=a%20b&appid={HELD}&x", f"/w?q=a%20b&appid={quote(VALUE, safe='')}&x"),
        ("/w?appid=proxy%2Dmanaged-weather", f"/w?appid={quote(VALUE, safe='')}"),
        ("/w?q=1", "/w?q=1"),
        ("/w", "/w"),
    ],
)
def test_a_value_in_the_query(target: str, wanted: str) -> None:
    async def scenario() -> None:
        async with inside_world(WEATHER_RULE, secrets=SECRETS) as w:
            answer = await w.ask(get(target, CLOSE))
            (line,) = await w.quiet()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert w.recorder.heads[0].startswith(f"GET {wanted} HTTP/1.1\r\n".encode())
        assert "authorization" not in fields_of(w.recorder.heads[0])
        assert VALUE not in repr(line) and VALUE.encode() not in answer and quote(VALUE, safe="").encode() not in answer

    in_loop(scenario())


JSON, FORM = "application/json", "application/x-www-form-urlencoded"
BODIES = [
    (JSON, f'{{ "key": "{HELD}", "n": 1.50, "b": [ "\\u0070roxy-managed-weather" ]}}',
     f'{{ "key": {json.dumps(VALUE)}, "n": 1.50, "b": [ {json.dumps(VALUE)} ]}}'),
    (FORM, f"a=1&key={HELD}&b=+%20", f"a=1&key={quote(VALUE, safe='')}&b=+%20"),
    (FORM, "key=proxy%2dmanaged-weather", f"key={quote(VALUE, safe='')}"),
    (JSON, '{"nothing": "of ours"}', '{"nothing": "of ours"}'),
    ("text/plain", "nothing of ours", "nothing of ours"),
]  # fmt: skip


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("media", "body", "wanted"), BODIES)
def test_a_value_in_the_body(media: str, body: str, wanted: str, chunked: bool) -> None:
    data = body.encode()
    framing = f"Content-Length: {len(data)}\r\n"
    if chunked:
        framing = "Transfer-Encoding: chunked\r\n"
        data = b"".join(b"1\r\n%c\r\n" % byte for byte in data) + b"0\r\n\r\n"

    async def scenario() -> None:
        async with inside_world(WEATHER_RULE, secrets=SECRETS) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/w", f"Content-Type: {media}\r\nExpect: 100-continue\r\n{framing}", method="POST"))
                assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
                writer.write(data + get("/next", CLOSE))
                answer = await reader.read(-1)
        assert answer.count(b"HTTP/1.1 200 ") == 2
        (got, sent), (following, _) = w.recorder.requests
        assert sent == wanted.encode()
        assert fields_of(got)["content-length"] == [str(len(sent))] and "transfer-encoding" not in fields_of(got)
        assert following.startswith(b"GET /next ")

    in_loop(scenario())


def post(body: bytes, media: str = JSON, extra: str = "") -> bytes:
    return get("/w", f"Content-Type: {media}\r\nContent-Length: {len(body)}\r\n{extra}", method="POST") + body


@pytest.mark.parametrize(
    ("request_", "status", "why"),
    [
        (post(gzip.compress(HELD.encode(), mtime=0), extra="Content-Encoding: gzip\r\n"), b"403", b"packed as gzip"),
        (post(b"{}", extra="Content-Encoding: br\r\n"), b"403", b"packed as br"),
        (post(f"key: {HELD}".encode(), "text/yaml"), b"403", b"cannot be replaced"),
        (post(f'{{"text": "my key is {HELD}"}}'.encode()), b"403", b"cannot be replaced"),
        (post(f'{{"key": "{HELD}"'.encode()), b"403", b"no JSON in UTF-8"),
        (post(f'{{"{HELD}": 1}}'.encode()), b"403", b"cannot be replaced"),
        (post(f'{{"key": "{HELD}", "key": "x"}}'.encode()), b"403", b"two fields of one name"),
        (post(f'{{"key": "{HELD}"}}'.encode("utf-16"), "application/json; charset=utf-16"), b"403", b"character set"),
        (post(b"x" * ((1 << 20) + 1), "text/plain"), b"413", b"cannot be looked into"),
        (get(f"/w?q=my+key+is+{HELD}"), b"403", b"a whole parameter"),
    ],
)  # fmt: skip
def test_a_placeholder_that_cannot_be_replaced_is_refused(request_: bytes, status: bytes, why: bytes) -> None:
    async def scenario() -> None:
        async with inside_world(WEATHER_RULE, secrets=SECRETS) as w:
            answer = await w.ask(request_)
            (line,) = await w.quiet()
        assert answer[9:12] == status and why in answer, answer
        assert w.recorder.everything == b"" and line["verdict"] == "refused" and VALUE not in repr(line)

    in_loop(scenario())


def test_values_go_into_queries_on_http_2_and_not_to_other_hosts() -> None:
    only_query = Rule(HOST, substitutions=(Substitution("weather", HELD, query=True),))

    async def scenario() -> None:
        server = Server()
        context = server_authority().context(HOST, "h2")
        async with inside_world(only_query, handler=server.serve, server=context, secrets=SECRETS) as w:
            async with h2_guest(w) as client:
                assert (await client.get(f"/w?appid={HELD}")).status == "200"
        assert server.requests[0].get(":path") == [f"/w?appid={quote(VALUE, safe='')}"]
        other = server_authority().context("other.example.com", "http/1.1")
        strange = Rule("other.example.com", intercept=True)
        async with inside_world(WEATHER_RULE, strange, server=other, secrets=SECRETS) as w:
            answer = await w.ask(get(f"/w?appid={HELD}", host="other.example.com"), "other.example.com")
            assert answer.startswith(b"HTTP/1.1 403 ") and w.recorder.everything == b""

    in_loop(scenario())


def test_an_open_http_2_connection_is_sent_to_http_1_by_a_policy_that_needs_bodies() -> None:
    async def scenario() -> None:
        server = Server()
        context = server_authority().context(HOST, "h2")
        async with inside_world(LOOK, handler=server.serve, server=context, secrets=SECRETS) as w:
            async with h2_guest(w) as client:
                assert (await client.get("/1")).status == "200"
                w.plain.gateway.set_policy(Policy([WEATHER_RULE]))
                assert (await client.get("/2")).reset == 0xD  # HTTP_1_1_REQUIRED
            lines = await w.quiet()
        assert [request.get(":path") for request in server.requests] == [["/1"]]
        assert lines[-1]["verdict"] == "refused" and "HTTP/1.1" in lines[-1]["reason"]

    in_loop(scenario())


HELD_ELSEWHERE = SECRET_RULE.injections[0].placeholders[0]
STRANGE = Rule("other.example.com", intercept=True)
CREDENTIAL_BODIES = [
    (JSON, f'{{"api_key": "{HELD_ELSEWHERE}"}}'),
    (JSON, f'{{"a": {{"Authorization" : "Bearer {HELD_ELSEWHERE}"}}}}'),
    (FORM, f"a=1&access_token={HELD_ELSEWHERE}&b=2"),
    (FORM, f"client_secret={HELD_ELSEWHERE}"),
]
OTHER_BODIES = [
    (JSON, json.dumps({"content": f'{{"api_key": "{HELD_ELSEWHERE}"}}'})),
    (JSON, json.dumps({"content": HELD_ELSEWHERE})),
    (JSON, json.dumps({"text": f"ANTHROPIC_API_KEY={HELD_ELSEWHERE}\nPATH=/bin"})),
]


@pytest.mark.parametrize(("media", "body"), CREDENTIAL_BODIES)
@pytest.mark.parametrize("pieces", [1, 7])
def test_a_placeholder_that_is_a_credential_in_a_body_does_not_reach_another_host(
    media: str, body: str, pieces: int
) -> None:
    step = len(body) // pieces + 1
    parts = [body[start : start + step].encode() for start in range(0, len(body), step)]
    data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    extra = f"Content-Type: {media}\r\nTransfer-Encoding: chunked\r\n"

    async def scenario() -> None:
        context = server_authority().context("other.example.com", "http/1.1")
        async with inside_world(SECRET_RULE, STRANGE, server=context) as w:
            request = get("/x", extra, host="other.example.com", method="POST") + data
            answer = await w.ask(request, "other.example.com")
            (line,) = await w.quiet()
        assert answer.startswith(b"HTTP/1.1 403 ") and b"the body carries the placeholder" in answer
        assert HELD_ELSEWHERE.encode() not in w.recorder.everything.replace(b"\r\n", b"")
        assert line["verdict"] == "refused" and "placeholder" in line["reason"]
        server = Server()
        context = server_authority().context("other.example.com", "h2")
        async with inside_world(SECRET_RULE, STRANGE, server=context, handler=server.serve) as w:
            async with h2_guest(w, "other.example.com") as client:
                headers = [*head("/x", "POST", "other.example.com"), ("content-type", media)]
                reply = await client.reply(client.ask(headers, body=body.encode()))
            (line,) = await w.quiet()
        assert reply.status == "403" and b"placeholder" in reply.body and line["verdict"] == "refused"
        assert all(HELD_ELSEWHERE.encode() not in request.body for request in server.requests)

    in_loop(scenario())


@pytest.mark.parametrize(("media", "body"), OTHER_BODIES)
def test_an_agent_may_tell_its_model_what_it_has_seen(media: str, body: str) -> None:
    async def scenario() -> None:
        context = server_authority().context("other.example.com", "http/1.1")
        async with inside_world(SECRET_RULE, STRANGE, server=context) as w:
            extra = f"Content-Type: {media}\r\nContent-Length: {len(body)}\r\n{CLOSE}"
            request = get("/x", extra, host="other.example.com", method="POST") + body.encode()
            answer = await w.ask(request, "other.example.com")
        assert answer.startswith(b"HTTP/1.1 200 ") and w.recorder.requests[0][1] == body.encode()

    in_loop(scenario())
