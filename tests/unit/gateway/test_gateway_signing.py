"""AWS signatures against AWS's own examples, and against what botocore 1.44.8 makes of the same requests."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from engine.gateway.injection import CredentialRefused
from engine.gateway.signing import Asked, Keys, read_asked, read_keys, sign

HELD = "AKIAPROXYMANAGED0000"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
PLAIN = Keys("AKIDEXAMPLE", SECRET)
PASSING = Keys("AKIDEXAMPLE", SECRET, "session/token+of=AWS")
BEDROCK = "bedrock-runtime.us-east-1.amazonaws.com"
BUCKET = "bucket.s3.us-east-1.amazonaws.com"
NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
CONTENT = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"


def guest_signature(service: str, names: str, region: str = "us-east-1", key: str = HELD) -> bytes:
    scope = f"{key}/20200101/{region}/{service}/aws4_request"
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={'0' * 64}".encode()


AWS_OWN = [
    # The test suite's get-vanilla, and "GET Object" of the pages on S3.
    (
        "service",
        "example.amazonaws.com",
        "/",
        [],
        PLAIN,
        datetime(2015, 8, 30, 12, 36, tzinfo=UTC),
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    (
        "s3",
        "examplebucket.s3.amazonaws.com",
        "/test.txt",
        [(b"range", b"bytes=0-9"), (b"x-amz-content-sha256", EMPTY.encode())],
        Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        datetime(2013, 5, 24, tzinfo=UTC),
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
]


@pytest.mark.parametrize(("service", "host", "target", "headers", "keys", "now", "signature"), AWS_OWN)
def test_the_examples_of_aws(
    service: str,
    host: str,
    target: str,
    headers: list[tuple[bytes, bytes]],
    keys: Keys,
    now: datetime,
    signature: str,
) -> None:
    headers = [(b"Host", host.encode()), *headers]
    names = ";".join(sorted([name.decode().lower() for name, _ in headers] + ["x-amz-date"]))
    headers.append((b"Authorization", guest_signature(service, names)))
    asked = read_asked(headers, target, [HELD])
    assert asked is not None
    sent = dict(sign(asked, keys, "GET", target, headers, b"", now))
    assert sent[b"authorization"].decode().endswith(f"Signature={signature}")
    assert HELD.encode() not in b"".join(sent.values())


BOTOCORE = [
    (
        "bedrock", "POST", BEDROCK, "/model/anthropic.claude-3%3A0/converse",
        {"Content-Type": "application/json"}, b'{"messages":[]}', PLAIN, "content-type;host;x-amz-date",
        "c28473a73decb4cdb70cbb4da88a7ce8b0fc0b77aee67d2846ed75719adab232",
    ),
    (
        "bedrock", "POST", BEDROCK, "/model/arn%3Aaws%3Abedrock%2Fx/invoke",
        {"Content-Type": "application/json", "X-Amzn-Bedrock-Accept": "*/*"}, b"{}", PASSING,
        "content-type;host;x-amz-date;x-amz-security-token;x-amzn-bedrock-accept",
        "770025b791240b1f21729d6d08d4d94d89e84783df75a6399fc223d03f5ac69e",
    ),
    (
        "s3", "PUT", BUCKET, "/a%20b/%C3%A9%2Bc.txt?versionId=1%2F2&acl=",
        {"Content-Type": "text/plain", "x-amz-meta-note": "two   words", "X-Amz-Content-SHA256": CONTENT},
        b"content", PLAIN, "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-meta-note",
        "071063471d510888a0c00ae56e60a85aab07357ea9f666e9b2bbe4c53a67ea5e",
    ),
    (
        "s3", "GET", BUCKET, "/?list-type=2&prefix=a%20b%2F&delimiter=%2F", {"X-Amz-Content-SHA256": EMPTY}, b"",
        PASSING, "host;x-amz-content-sha256;x-amz-date;x-amz-security-token",
        "b3a2e9400ff3e73067a9d21b15f1a93d1849eaf3b001f9c4d212eb0ac0e1fd86",
    ),
    (
        "sts", "POST", "sts.us-east-1.amazonaws.com", "/",
        {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        b"Action=GetCallerIdentity&Version=2011-06-15", PLAIN, "content-type;host;x-amz-date",
        "be251a04220585ae1b2caee62bc41f6a2199e639631ac7e9fd7899a361b29444",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("service", "method", "host", "target", "headers", "body", "keys", "names", "signature"), BOTOCORE
)
def test_the_same_as_botocore(
    service: str,
    method: str,
    host: str,
    target: str,
    headers: dict[str, str],
    body: bytes,
    keys: Keys,
    names: str,
    signature: str,
) -> None:
    given = [(b"host", host.encode()), *((name.encode(), value.encode()) for name, value in headers.items())]
    given += [(b"X-Amz-Date", b"20200101T000000Z"), (b"X-Amz-Security-Token", b"the guest's")]
    given.append((b"Authorization", guest_signature(service, names)))
    asked = read_asked(given, target, [HELD])
    assert asked is not None and (asked.digest is None) == (service != "s3")
    sent = sign(asked, keys, method, target, given, body, NOW)
    value = dict(sent)[b"authorization"].decode()
    scope = f"AKIDEXAMPLE/20260203/us-east-1/{service}/aws4_request"
    wanted = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={signature}"
    assert value == wanted
    assert [each for name, each in sent if name.lower() == b"x-amz-date"] == [b"20260203T040506Z"]
    tokens = [each for name, each in sent if name.lower() == b"x-amz-security-token"]
    assert tokens == ([keys.token.encode()] if keys.token else [])


@pytest.mark.parametrize("digest", ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "0" * 64])
def test_a_body_that_is_not_signed_or_whose_digest_is_said_need_not_be_here(digest: str) -> None:
    headers = [(b"x-amz-content-sha256", digest.encode()), (b"authorization", guest_signature("s3", "host"))]
    assert read_asked(headers, "/", [HELD]) == Asked("us-east-1", "s3", ("host",), digest)


SIGNED = guest_signature("s3", "host")
NOT_ANEW = {
    "chunks": [(b"authorization", SIGNED), (b"x-amz-content-sha256", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD")],
    "chunks and trailers": [
        (b"authorization", SIGNED),
        (b"x-amz-content-sha256", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
    ],
    "two digests": [(b"authorization", SIGNED), *[(b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD")] * 2],
    "two signatures": [(b"authorization", SIGNED)] * 2,
    "of many regions": [(b"authorization", SIGNED.replace(b"AWS4-HMAC-SHA256", b"AWS4-ECDSA-P256-SHA256"))],
    "other keys": [(b"authorization", guest_signature("s3", "host", key="AKIAOTHER00000000000"))],
    "no scope": [(b"authorization", SIGNED.replace(b"/aws4_request", b""))],
    "a line end": [(b"authorization", SIGNED.replace(b"us-east-1", b"us\neast"))],
    "bearer": [(b"authorization", b"Bearer " + HELD.encode())],
}


@pytest.mark.parametrize("headers", NOT_ANEW.values(), ids=NOT_ANEW)
def test_what_cannot_be_signed_anew_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(CredentialRefused):
        read_asked(headers, "/", [HELD])


def test_a_signed_url_is_refused_and_a_request_that_is_not_signed_is_nothing_to_do() -> None:
    with pytest.raises(CredentialRefused, match="URL that was signed"):
        read_asked([], f"/x?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={HELD}%2F20200101", [HELD])
    assert read_asked([(b"host", b"x")], "/x?list-type=2", [HELD]) is None


def test_values() -> None:
    assert read_keys(f"AKID:{SECRET}") == Keys("AKID", SECRET)
    assert read_keys(f"AKID:{SECRET}:tok:en") == Keys("AKID", SECRET, "tok:en")
    said = {"Version": 1, "AccessKeyId": "ASIA", "SecretAccessKey": SECRET, "SessionToken": "t"}
    assert read_keys(json.dumps(said)) == Keys("ASIA", SECRET, "t")
    for value in (SECRET, "AKID:", ":x", '{"AccessKeyId": "A"}', "{", '{"AccessKeyId":1,"SecretAccessKey":2}', "[1]"):
        with pytest.raises(CredentialRefused) as caught:
            read_keys(value)
        assert SECRET not in f"{caught.value.brief}{caught.value.hint}"
    assert SECRET not in repr(Keys("AKID", SECRET, SECRET))
