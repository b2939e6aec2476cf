"""Credentials on the way out: the guest's placeholder goes, the real value comes in. Rivals of it are removed.

A value lives here for the time of one request. It is in no message: whoever writes an error never has it in hand.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from engine.gateway.errors import GatewayError
from engine.gateway.rules import Injection, Rule

Secrets = Callable[[str], str | None]
"""The value of a secret at this moment; None when there is none."""
Headers = list[tuple[bytes, bytes]]

# What servers take for a credential, besides what the rules name. A cookie is a session's, which servers give.
_CREDENTIALS = frozenset(
    b"authorization proxy-authorization x-api-key api-key x-goog-api-key x-auth-token private-token job-token"
    b" x-amz-security-token x-access-token".split()
)
_CREDENTIAL_PARAMETERS = frozenset({"access_token", "api_key", "apikey", "private_token", "auth_token"})
_GOOGLE = b"x-goog-api-key"  # which may stand in the query, too, as `key`
_HEADER_VALUE = re.compile(rb"[!-~](?:[ -~]*[!-~])?")


class CredentialRefused(GatewayError):
    """The request carries a credential that it must not, or lacks one that it must have."""


@dataclass(frozen=True)
class Credentials:
    """What is added to one request."""

    headers: Headers = field(default_factory=list, repr=False)
    secrets: tuple[str, ...] = ()


def header_key(name: bytes) -> bytes:
    """As servers behind CGI and WSGI tell headers apart: X_Api_Key is X-Api-Key."""
    return name.lower().replace(b"_", b"-")


def find_placeholder(headers: Headers, target: str, texts: Iterable[str]) -> bool:
    """Whether one of these texts is in a request's head: as it is, in Basic credentials, or %-encoded."""
    wanted = [text.encode() for text in texts]
    if not wanted:
        return False
    shown = [form for name, value in headers for form in (name, *_forms(value))]
    shown += [target.encode(), unquote_plus(target).encode()]
    return any(text in form for form in shown for text in wanted)


def check_foreign(headers: Headers, target: str, rules: Sequence[Rule], injections: Sequence[Injection]) -> bool:
    """Whether the request brings a credential that is none of ours to a host that gets a secret.

    True where a rule permits that, False where there is none. Raises CredentialRefused where no rule permits it.
    `injections` are those that the request gets: what they remove is no credential any more, if nobody knows what the
    guest holds instead of the secret.
    """
    ours = [injection for rule in rules for injection in rule.injections]
    substitutions = [each for rule in rules for each in rule.substitutions]
    if not ours and not substitutions:
        return False
    known = [text.encode() for injection in ours for text in injection.placeholders]
    known += [each.placeholder.encode() for each in substitutions]
    names_of_ours = {name for injection in ours for name in _removed(injection)}
    names = _CREDENTIALS | names_of_ours
    replaced = {name for each in injections if not each.placeholders for name in _removed(each)}
    found = [
        name.decode("ascii", "replace")
        for name, value in headers
        if (key := header_key(name)) in names and key not in replaced and value.strip() and not _holds(value, known)
    ]
    parameters = _CREDENTIAL_PARAMETERS | ({"key"} if _GOOGLE in names_of_ours else set())
    found += [f"?{name}" for name, value in _query(target) if name in parameters and not _holds(value.encode(), known)]
    if found and not any(rule.foreign_credentials for rule in rules):
        raise CredentialRefused(
            f"the request carries a credential in {found[0]!r} that is not the sandbox's own",
            hint="leave it to the sandbox to add the credential, or set `foreign_credentials: allow` at this endpoint",
        )
    return bool(found)


def credentials_for(injections: Sequence[Injection], secrets: Secrets) -> Credentials:
    """The headers to add. Raises CredentialRefused when a value is missing or fits into no header."""
    headers: Headers = []
    for injection in injections:
        if injection.form == "sigv4":  # signing.py's, once the request is whole
            continue
        value = value_of(injection.secret, secrets)
        content = _format(injection, value)
        if content is None:
            raise CredentialRefused(f"the secret {injection.secret} has a value that fits into no header")
        headers.append((injection.header.encode("ascii"), content))
    return Credentials(headers, tuple(injection.secret for injection in injections))


def value_of(name: str, secrets: Secrets) -> str:
    """Raises CredentialRefused when there is none."""
    if value := secrets(name):
        return value
    raise CredentialRefused(f"the secret {name} has no value", hint=f"set it on the host: sandbox secret set {name}")


def without_rivals(headers: Headers, injections: Sequence[Injection]) -> Headers:
    """The guest's headers less those that ours stand for."""
    rivals = {name for injection in injections for name in _removed(injection)}
    placeholders = [text.encode() for injection in injections for text in injection.placeholders]
    return [
        (name, value)
        for name, value in headers
        if (key := header_key(name)) not in rivals and not (key in _CREDENTIALS and _holds(value, placeholders))
    ]


def _format(injection: Injection, value: str) -> bytes | None:
    """None where the value fits into no header."""
    content = value.encode()
    if not _HEADER_VALUE.fullmatch(content):
        return None
    if injection.form == "basic":
        return b"Basic " + base64.b64encode(f"{injection.user}:{value}".encode())
    return b"Bearer " + content if injection.form == "bearer" else content


def _removed(injection: Injection) -> set[bytes]:
    return {header_key(name.encode("ascii")) for name in (injection.header, *injection.drop)}


def _holds(value: bytes, texts: Iterable[bytes]) -> bool:
    return any(text in form for form in _forms(value) for text in texts if text)


def _forms(value: bytes) -> list[bytes]:
    """A header's value, and what is inside of it where it is base64, as in Basic credentials."""
    forms = [value]
    scheme, _, rest = value.strip().partition(b" ")
    for text in {rest.strip(), scheme} if scheme.lower() == b"basic" or not rest else set():
        try:
            forms.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            continue
    return forms


def _query(target: str) -> list[tuple[str, str]]:
    """The parameters of a target that have a value."""
    pairs = (part.partition("=") for part in re.split("[&;]", target.partition("?")[2]))
    return [(unquote_plus(name).lower(), unquote_plus(value)) for name, _, value in pairs if value]
