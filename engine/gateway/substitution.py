"""Values in queries and bodies, in the place of their placeholders: only where an endpoint asks for it.

A placeholder is replaced where it is a whole parameter of the query, a whole field of a form, or a whole text of a JSON
document. What is sent is written in the encoding of its place, so that no value can become more than a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, unquote_plus

from engine.gateway.fields import BodyUnreadable, is_packed, kind_of_body, read_form, read_json
from engine.gateway.injection import CredentialRefused, Headers, Secrets, value_of
from engine.gateway.rules import Substitution

LONGEST_BODY = 1 << 20

_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"(\s*:)?', re.DOTALL)


def into_query(target: str, substitutions: Sequence[Substitution], secrets: Secrets) -> str:
    """Raises CredentialRefused for a placeholder that is no whole parameter, and for a value that is missing."""
    wanted = {each.placeholder: each.secret for each in substitutions if each.query}
    path, mark, query = target.partition("?")
    if not wanted or not mark:
        return target
    query = "&".join(_parameter(part, wanted, secrets) for part in query.split("&"))
    _check_left(unquote_plus(query).encode(), wanted, "the query", "a whole parameter of it")
    return f"{path}?{query}"


def into_body(headers: Headers, body: bytes, substitutions: Sequence[Substitution], secrets: Secrets) -> bytes:
    """The body with the values; as it is where it has no placeholder. Raises CredentialRefused where it cannot be
    looked into, and for a placeholder that cannot be replaced."""
    wanted = {each.placeholder: each.secret for each in substitutions if each.body}
    if not wanted or not body:
        return body
    try:
        if encoding := is_packed(headers):
            raise BodyUnreadable(f"it is packed as {encoding[:40]}")
        kind = kind_of_body(headers)
        if kind is not None and _is_in(body, wanted):
            body = _into_form(body, wanted, secrets) if kind == "form" else _into_json(body, wanted, secrets)
    except BodyUnreadable as error:
        raise CredentialRefused(
            f"the body cannot be looked into for a placeholder: {error.brief}", hint="send it as it is, in UTF-8"
        ) from None
    _check_left(body, wanted, "the body", "a whole field of a form or of JSON")
    return body


def _parameter(part: str, wanted: Mapping[str, str], secrets: Secrets) -> str:
    name, equals, value = part.partition("=")
    secret = wanted.get(unquote_plus(value))
    return part if secret is None else f"{name}{equals}{quote(value_of(secret, secrets), safe='')}"


def _into_form(body: bytes, wanted: Mapping[str, str], secrets: Secrets) -> bytes:
    read_form(body)  # in one way, or not at all
    return "&".join(_parameter(part, wanted, secrets) for part in body.decode("ascii").split("&")).encode()


def _into_json(body: bytes, wanted: Mapping[str, str], secrets: Secrets) -> bytes:
    read_json(body)

    def change(found: re.Match[bytes]) -> bytes:
        if found[1] is not None:  # the name of a field
            return found[0]
        secret = wanted.get(json.loads(found[0]))
        return found[0] if secret is None else json.dumps(value_of(secret, secrets)).encode()

    return _TEXT.sub(change, body)  # all else stays as the guest wrote it


def _is_in(body: bytes, wanted: Mapping[str, str]) -> bool:
    """Whether a placeholder may be in it: what could be written otherwise counts."""
    return b"\\" in body or b"%" in body or any(each.encode() in body for each in wanted)


def _check_left(data: bytes, wanted: Mapping[str, str], place: str, where: str) -> None:
    if any(each.encode() in data for each in wanted):
        raise CredentialRefused(f"a placeholder in {place} cannot be replaced", hint=f"it has to be {where}")
