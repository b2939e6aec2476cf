"""Token endpoints: the guest renews its login with a placeholder, and gets placeholders.

The real refresh token is put into the request, and the new tokens are taken out of the answer, which is written anew
from what was read. An answer of which that cannot be said is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from engine.gateway.answers import AnswerRefused
from engine.gateway.fields import (
    BodyUnreadable,
    change_texts,
    is_packed,
    kind_of_body,
    read_form,
    read_json,
    unpack,
    write_form,
    write_json,
)
from engine.gateway.forms import forms_of
from engine.gateway.injection import CredentialRefused, Headers, Secrets
from engine.gateway.redaction import Redactor
from engine.gateway.rules import Renewal
from engine.gateway.whole import LONGEST_ANSWER, Masked

LONGEST_REQUEST = 64 << 10

_VALUE = re.compile(r"[!-~]{8,16384}")  # of a token that can be kept, and put into a header
_LIKE_A_CREDENTIAL = re.compile("token|secret|key|credential|password|assertion|cookie|session", re.IGNORECASE)
_HARMLESS = frozenset({"token_type", "issued_token_type"})
_MARK = "********"
_JWT = re.compile(r"([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*")
# Of an answer's headers: a cookie is a credential, too, and whoever renews a token has no use for the others.
_KEPT = frozenset(b"content-type date cache-control pragma retry-after request-id x-request-id".split())


def put_in(renewal: Renewal, headers: Headers, body: bytes, secrets: Secrets) -> bytes:
    """The body with the real refresh token. Raises CredentialRefused for every request but one that renews ours."""
    try:
        if encoding := is_packed(headers):
            raise BodyUnreadable(f"it is packed as {encoding[:40]}")
        kind = kind_of_body(headers)
        if kind is None:
            raise BodyUnreadable("it is neither JSON nor a form")
        value = read_json(body) if kind == "json" else read_form(body)
    except BodyUnreadable as error:
        raise CredentialRefused(f"the body for a token endpoint cannot be read: {error.brief}") from None
    fields = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(fields, list) or not all(isinstance(each, tuple) for each in fields):
        raise CredentialRefused("the body for a token endpoint has no fields")
    if [each for name, each in fields if name == "grant_type"] != ["refresh_token"]:
        raise CredentialRefused(
            "a login can be renewed here, and nothing else", hint="log in on the host: its tokens stay there"
        )
    if [each for name, each in fields if name == renewal.asked] != [renewal.placeholder]:
        raise CredentialRefused(
            f"the request does not renew the sandbox's own login: {renewal.asked} is not its placeholder"
        )
    real = secrets(renewal.renewing)
    if not real:
        raise CredentialRefused(
            f"the secret {renewal.renewing} has no value",
            hint=f"set it on the host: sandbox secret set {renewal.renewing}",
        )
    filled = [(name, real if name == renewal.asked else each) for name, each in fields]
    return write_json(dict(filled)) if kind == "json" else write_form(filled)


def mask(renewal: Renewal, status: int, headers: Headers, body: bytes, secrets: Secrets, host: str) -> Masked:
    """An answer as the guest may have it. Raises AnswerRefused where nobody can say that it holds no token."""
    taken: dict[str, str] = {}
    kept = [(name, value) for name, value in headers if name.lower() in _KEPT]
    try:
        body = unpack(body, is_packed(headers), LONGEST_ANSWER)
        if body:
            body = _mask_body(renewal, headers, body, taken, ok=200 <= status < 300)
    except BodyUnreadable as error:
        raise AnswerRefused(
            f"the answer of {host} (status {status}) cannot be masked: {error.brief}",
            hint="log in again on the host if the login is lost: the vendor may have renewed it",
        ) from None
    # What is left of a token, wherever it stands, is overwritten as in any answer.
    redactor = Redactor(form for value in _values(renewal, taken, secrets) for form in forms_of(value.encode()))
    kept = [(name, redactor.clean(value)) for name, value in kept]
    return Masked(kept, redactor.clean(body), taken)


def _mask_body(renewal: Renewal, headers: Headers, body: bytes, taken: dict[str, str], *, ok: bool) -> bytes:
    kind = kind_of_body(headers)
    if kind is None:
        raise BodyUnreadable("it is neither JSON nor a form")
    answered = {name: (which, placeholder) for name, which, placeholder in renewal.answered}

    def change(name: str, text: str) -> str:
        if name in answered:
            which, placeholder = answered[name]
            return _take(renewal, which, placeholder, text, taken)
        if _LIKE_A_CREDENTIAL.search(name) and name.lower() not in _HARMLESS:
            return _MARK
        return text

    if kind == "form":
        return write_form([(name, change(name, text)) for name, text in read_form(body)])
    value = read_json(body)
    if not isinstance(value, dict):
        raise BodyUnreadable("it is no JSON object")
    changed = change_texts(value, change)
    _check_types(value, answered)
    if ok and renewal.secret not in taken:
        raise BodyUnreadable("it has no access token where one is expected")
    return write_json(changed)


def _take(renewal: Renewal, which: str, placeholder: str, text: str, taken: dict[str, str]) -> str:
    if which == "identity":
        # Its claims say whose login it is, and clients read them. Without its signature nobody takes it.
        found = _JWT.fullmatch(text)
        return f"{found[1]}.{placeholder}" if found else placeholder
    if not _VALUE.fullmatch(text):
        raise BodyUnreadable("a token in it fits into no header")
    secret = renewal.secret if which == "access" else renewal.renewing
    if taken.setdefault(secret, text) != text:
        raise BodyUnreadable("it has two tokens of one kind")
    return placeholder


def _check_types(value: Any, answered: Mapping[str, object]) -> None:
    """A token in a list or an object is one that nobody would find."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name in answered and not isinstance(each, str | None):
                raise BodyUnreadable("a token in it is no text")
            _check_types(each, answered)
    elif isinstance(value, list):
        for each in value:
            _check_types(each, answered)


def _values(renewal: Renewal, taken: Mapping[str, str], secrets: Secrets) -> Iterator[str]:
    yield from taken.values()
    for name in (renewal.secret, renewal.renewing):
        if value := secrets(name):
            yield value
