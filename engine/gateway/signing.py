"""AWS Signature Version 4, made anew: the guest signs with placeholders, and its signature goes no further.

Of the guest's `Authorization` are taken the region, the service, and which headers it wanted signed. The time is ours.
The forms are those of AWS's "Create a signed AWS API request"; the tests compare with its examples and with botocore.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, unquote_to_bytes

from engine.gateway.injection import CredentialRefused, Headers

LONGEST_BODY = 8 << 20  # of one that has to be seen as a whole, since the request does not say its digest

_ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<key>[^/, ]{1,128})/[0-9]{8}/(?P<region>[a-z0-9-]{1,64})/"
    r"(?P<service>[a-z0-9-]{1,64})/aws4_request *, *SignedHeaders=(?P<names>[a-z0-9;_.-]{1,4096}) *, *"
    r"Signature=[0-9a-f]{64}"
)
_DIGEST = re.compile("[0-9a-f]{64}")
# Of a body whose chunks are not signed one by one, the digest that is signed is one of these words.
_WORDS = frozenset({"UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"})
_PATH_AS_IT_IS = frozenset({"s3", "s3-object-lambda", "s3-outposts", "s3express"})
# They are changed on the way, or are ours to write.
_NEVER_SIGNED = frozenset(b"authorization connection expect transfer-encoding te trailer x-amz-security-token".split())


@dataclass(frozen=True)
class Keys:
    """What an AWS secret's value is: `KEYID:SECRET`, `KEYID:SECRET:TOKEN`, or the JSON of a `credential_process`."""

    identity: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Asked:
    """What a guest's signature says."""

    region: str
    service: str
    names: tuple[str, ...]
    digest: str | None  # of the body, as it is signed; None: it has to be made of the body


def read_keys(value: str) -> Keys:
    """Raises CredentialRefused, which says nothing of the value."""
    keys = None
    if value.startswith("{"):
        try:
            found = json.loads(value)
            keys = Keys(found["AccessKeyId"], found["SecretAccessKey"], found.get("SessionToken") or "")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            keys = None
    elif ":" in value:
        identity, _, rest = value.partition(":")
        secret, _, token = rest.partition(":")
        keys = Keys(identity, secret, token)
    if keys is None or not all(
        isinstance(each, str) and re.fullmatch("[!-~]*", each) for each in (keys.identity, keys.secret, keys.token)
    ):
        keys = None
    if keys is None or not re.fullmatch("[A-Za-z0-9]{4,128}", keys.identity) or not keys.secret:
        raise CredentialRefused(
            "the value of the secret is no pair of AWS keys", hint="it is KEYID:SECRET, or KEYID:SECRET:TOKEN"
        )
    return keys


def read_asked(headers: Headers, target: str, placeholders: Iterable[str]) -> Asked | None:
    """What the guest signed with our placeholder; None where it did not sign. Raises CredentialRefused for a signature
    that cannot be made anew."""
    if re.search(r"[?&]x-amz-(?:algorithm|signature|credential)=", target, re.IGNORECASE):
        raise CredentialRefused(
            "a URL that was signed by the guest cannot be signed anew", hint="sign the request's headers instead"
        )
    found = [value.decode("latin-1").strip() for name, value in headers if name.lower() == b"authorization"]
    if not found:
        return None
    if len(found) > 1 or not found[0].startswith("AWS4-"):
        raise CredentialRefused("the request is not signed as AWS has it", hint="Signature Version 4, in one header")
    match = _AUTHORIZATION.fullmatch(found[0])
    if match is None:
        reason = f"only {_ALGORITHM} can be signed anew" if not found[0].startswith(f"{_ALGORITHM} ") else "malformed"
        raise CredentialRefused(f"the request's signature cannot be made anew: {reason}")
    if match["key"] not in placeholders:
        raise CredentialRefused("the request is signed with other keys than the sandbox's placeholder")
    digests = [value.decode("latin-1").strip() for name, value in headers if name.lower() == b"x-amz-content-sha256"]
    digest = digests[0] if digests else None
    if len(digests) > 1 or (digest is not None and digest not in _WORDS and not _DIGEST.fullmatch(digest)):
        raise CredentialRefused(
            "the chunks of the body are signed one by one, which cannot be made anew",
            hint="have the client send the body unsigned or in one piece, which it does over https by default:"
            " payload signing off, chunked encoding off",
        )
    return Asked(match["region"], match["service"], tuple(match["names"].split(";")), digest)


def sign(asked: Asked, keys: Keys, method: str, target: str, headers: Headers, body: bytes, now: datetime) -> Headers:
    """The headers to be sent, with a signature. `headers` have the host; `body` counts where no digest was given."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    ours = {b"authorization", b"x-amz-date", b"x-amz-security-token", b"date"}
    sent = [(name, value) for name, value in headers if name.lower().replace(b"_", b"-") not in ours]
    sent.append((b"x-amz-date", stamp.encode()))
    if keys.token:
        sent.append((b"x-amz-security-token", keys.token.encode()))
    digest = asked.digest
    if digest is None:
        digest = hashlib.sha256(body).hexdigest()
        if asked.service in _PATH_AS_IT_IS:
            sent.append((b"x-amz-content-sha256", digest.encode()))
    wanted = {name.encode() for name in asked.names} - _NEVER_SIGNED
    signed = {name.lower() for name, _ in sent} & wanted
    signed |= {name.lower() for name, _ in sent if name.lower() in (b"host", b"content-type")}
    signed |= {name.lower() for name, _ in sent if name.lower().startswith(b"x-amz-")}
    names = ";".join(sorted(name.decode() for name in signed))
    canonical = "\n".join([method, _path(target, asked.service), _query(target), _headers(sent, signed), names, digest])
    scope = f"{stamp[:8]}/{asked.region}/{asked.service}/aws4_request"
    text = "\n".join([_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode("latin-1")).hexdigest()])
    key = f"AWS4{keys.secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    value = f"{_ALGORITHM} Credential={keys.identity}/{scope}, SignedHeaders={names}, Signature={signature}"
    return [*sent, (b"authorization", value.encode())]


def _path(target: str, service: str) -> str:
    path = target.partition("?")[0]
    if service in _PATH_AS_IT_IS:
        return quote(unquote_to_bytes(path), safe="/-_.~")
    return quote(_without_dots(path), safe="/-_.~")  # encoded once more than it is sent


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4, and no empty segments."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts) + ("/" if parts and path.endswith(("/", "/.", "/..")) else "")


def _query(target: str) -> str:
    pairs = (part.partition("=") for part in target.partition("?")[2].split("&") if part)
    encoded = sorted((_encode(name), _encode(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def _encode(text: str) -> str:
    return quote(unquote_to_bytes(text), safe="-_.~")


def _headers(sent: Headers, signed: set[bytes]) -> str:
    lines = []
    for name in sorted(signed):
        values = [b" ".join(value.split()) for each, value in sent if each.lower() == name]
        lines.append(f"{name.decode()}:{b','.join(values).decode('latin-1')}\n")
    return "".join(lines)
