"""Fields of a body that is here as a whole: JSON and forms, read so that no server can read another one."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Literal
from urllib.parse import parse_qsl, quote_plus, urlencode

from engine.gateway.errors import GatewayError

Headers = Iterable[tuple[bytes, bytes]]
Kind = Literal["json", "form"]

_FORM = "application/x-www-form-urlencoded"
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_CHARSETS = ("", "utf-8", "utf8", "us-ascii")
_DEEPEST = 50


class BodyUnreadable(GatewayError):
    """A body that cannot be read, or can be read in two ways. The text says which, and quotes nothing of it."""


def kind_of_body(headers: Headers) -> Kind | None:
    """By the content type; None for all others. Raises BodyUnreadable for a character set that is not UTF-8."""
    values = [value.decode("latin-1") for name, value in headers if name.lower() == b"content-type"]
    if len(values) > 1:
        raise BodyUnreadable("it has two content types")
    media, *parameters = (part.strip().lower() for part in (values[0] if values else "").split(";"))
    charset = next((each.partition("=")[2].strip('"') for each in parameters if each.startswith("charset=")), "")
    kind: Kind | None = "form" if media == _FORM else None
    if media == "application/json" or (media.startswith("application/") and media.endswith("+json")):
        kind = "json"
    if kind and charset not in _CHARSETS:
        raise BodyUnreadable(f"its character set is {charset[:40]}")
    return kind


def is_packed(headers: Headers) -> str:
    """The encoding of a body that is not sent as it is; empty for others."""
    named = [value.decode("latin-1").lower() for name, value in headers if name.lower() == b"content-encoding"]
    tokens = [token.strip() for value in named for token in value.split(",")]
    return ", ".join(token for token in tokens if token not in ("", "identity"))


def unpack(body: bytes, encoding: str, longest: int) -> bytes:
    """The body without its encoding (gzip, deflate). Raises BodyUnreadable."""
    if not encoding:
        return body
    if encoding not in _WINDOWS:
        raise BodyUnreadable(f"it is packed as {encoding[:40]}")
    unpacking = zlib.decompressobj(_WINDOWS[encoding])
    try:
        data = unpacking.decompress(body, longest + 1)
    except zlib.error:
        raise BodyUnreadable(f"it is not {encoding}, as which it was packed") from None
    if len(data) > longest:
        raise BodyUnreadable(f"it is longer than {longest} bytes")
    if not unpacking.eof or unpacking.unused_data:
        raise BodyUnreadable(f"its {encoding} has no end, or something behind it")
    return data


def read_json(body: bytes) -> Any:
    """Raises BodyUnreadable, also for two fields of one name."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_number)
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise BodyUnreadable("it is no JSON in UTF-8, or has two fields of one name") from None


def read_form(body: bytes) -> list[tuple[str, str]]:
    """Raises BodyUnreadable."""
    try:
        text = body.decode("ascii")
        if ";" in text:
            raise ValueError
        return parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=1000)
    except (UnicodeDecodeError, ValueError):
        raise BodyUnreadable("it is no form that everybody reads in one way") from None


def write_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def write_form(fields: list[tuple[str, str]]) -> bytes:
    return urlencode(fields, quote_via=quote_plus).encode()


def change_texts(value: Any, change: Callable[[str, str], str], name: str = "", depth: int = 0) -> Any:
    """The same JSON with each text as `change(name of its field, text)` has it. Raises BodyUnreadable."""
    if depth > _DEEPEST:
        raise BodyUnreadable("it is nested too deep")
    if isinstance(value, dict):
        return {key: change_texts(each, change, key, depth + 1) for key, each in value.items()}
    if isinstance(value, list):
        return [change_texts(each, change, name, depth + 1) for each in value]
    return change(name, value) if isinstance(value, str) else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _no_number(text: str) -> None:
    raise ValueError(text)
