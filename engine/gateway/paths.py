"""What a request's path may be, so that the matcher and the server behind it cannot read two different ones.

Without a path condition the target goes on byte for byte (signatures cover it); only its syntax is checked. With one,
the path is brought into one spelling, which is both what is matched and what is sent. What servers are known to read in
several ways is refused, or, where honest clients send it (%2F, ;x), has several readings: an allow must match each of
them, a deny any, in any case. So an allow list is a boundary; a deny list is none, as servers have aliases.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl, unquote_plus

from engine.gateway.errors import GatewayError
from engine.gateway.glob import Glob

LONGEST = 16 << 10  # bytes of a target

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_VISIBLE = re.compile(r"[!-~]*")
_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*")  # RFC 3986: pchar and /
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})?")
_TWICE = re.compile(r"%25[0-9A-Fa-f]{2}")
_PARAMETERS = re.compile(r";[^/]*")
_SPECIAL = "/\\.%;?#"


class BadTarget(GatewayError):
    """A request target that two servers could read differently, or that is none."""


@dataclass(frozen=True)
class Target:
    """`wire` is what is sent on. `readings` are those of the path, the plain one first. `query` None: no `?` at all."""

    wire: str
    readings: tuple[str, ...]
    query: str | None = None

    @property
    def path(self) -> str:
        return self.readings[0]


def read_target(target: str, *, strict: bool) -> Target:
    """A target in origin form, or `*`. `strict`: some rule has a path condition. Raises BadTarget."""
    if len(target) > LONGEST:
        raise BadTarget(f"the request target is longer than {LONGEST} bytes")
    if target == "*":
        return Target("*", ("*",))
    path, mark, query = target.partition("?")
    if not target.startswith("/") or "#" in target or not _VISIBLE.fullmatch(target):
        raise BadTarget("the request target is no path")
    if not strict:
        return Target(target, (path,), query if mark else None)
    path = normal_path(path)
    return Target(path + mark + query, _readings(path), query if mark else None)


def normal_path(path: str) -> str:
    """The one spelling of a path: escapes of unreserved characters decoded, the others in upper case. Raises BadTarget.

    Nothing is resolved: what would have to be is refused.
    """
    if not _PATH.fullmatch(path):
        raise BadTarget("a character in the path that must be %-encoded")
    path = _ESCAPE.sub(_spell, path)
    if _TWICE.search(path):
        raise BadTarget("a doubly encoded character in the path")
    _check_segments(path)
    _check_letters(path)
    return path


def _spell(escape: re.Match[str]) -> str:
    if escape[1] is None:
        raise BadTarget("a % in the path that begins no escape")
    byte = int(escape[1], 16)
    if byte < 0x20 or byte == 0x7F:
        raise BadTarget("an encoded control character in the path")
    if byte == 0x5C:
        raise BadTarget("an encoded backslash in the path")
    return chr(byte) if byte in _UNRESERVED else f"%{byte:02X}"


def _check_segments(path: str) -> None:
    if "//" in path:
        raise BadTarget("an empty segment (//) in the path")
    if any(segment.partition(";")[0] in (".", "..") for segment in path.split("/")):
        raise BadTarget("a dot segment in the path")


def _check_letters(path: str) -> None:
    """Refuse what is not UTF-8, and letters that some servers fold into one that divides paths."""
    decoded = re.sub(rb"%([0-9A-F]{2})", lambda escape: bytes((int(escape[1], 16),)), path.encode("ascii"))
    try:
        text = decoded.decode("utf-8")
    except UnicodeDecodeError:
        raise BadTarget("the path is not UTF-8") from None
    folded = unicodedata.normalize("NFKC", text)
    if folded != text and any(folded.count(letter) > text.count(letter) for letter in _SPECIAL):
        raise BadTarget("a character in the path that some servers take for another")


def _readings(path: str) -> tuple[str, ...]:
    """As itself, as Java's servers read it (without `;...`), and both with %2F as a slash, in either order."""
    stripped = _PARAMETERS.sub("", path)
    readings = [path, stripped]
    if "%2F" in path:
        slashed = path.replace("%2F", "/")
        readings += [slashed, stripped.replace("%2F", "/"), _PARAMETERS.sub("", slashed)]
    for reading in readings:
        _check_segments(reading)
    return tuple(dict.fromkeys(readings))


def allows(patterns: Iterable[str], target: Target) -> bool:
    """Whether each reading matches some pattern."""
    able = [pattern for pattern in patterns if _query_is(pattern, target)]
    return all(any(_glob(pattern, False).matches(reading) for pattern in able) for reading in target.readings)


def denies(patterns: Iterable[str], target: Target) -> bool:
    """Whether any reading matches any pattern, in any case, with or without a slash at its end."""
    readings = {*target.readings, *(reading.rstrip("/") or "/" for reading in target.readings)}
    able = [pattern for pattern in patterns if _query_has(pattern, target)]
    return any(_glob(pattern, True).matches(reading) for pattern in able for reading in readings)


def check_pattern(pattern: str) -> None:
    """Raises BadTarget for a pattern that no path in normal form can match."""
    if not pattern.startswith("/"):
        raise BadTarget(f"the path pattern {pattern[:80]!r} does not begin with /")
    normal_path(_encode(pattern.partition("?")[0]))


def _query_is(pattern: str, target: Target) -> bool:
    """A pattern with a query allows exactly that one."""
    _, mark, query = pattern.partition("?")
    return not mark or target.query == query


def _query_has(pattern: str, target: Target) -> bool:
    """A pattern with a query denies every query that holds its parameters."""
    _, mark, query = pattern.partition("?")
    return not mark or {*_parameters(query)} <= {*_parameters(target.query or "")}


def _parameters(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query.replace(";", "&"), keep_blank_values=True)


def methods_in_query(query: str | None) -> tuple[str, ...]:
    """What `_method` says: frameworks take it for the request's method."""
    pairs = (part.partition("=") for part in re.split("[&;]", query or ""))
    return tuple(unquote_plus(value) for name, _, value in pairs if unquote_plus(name).strip().lower() == "_method")


@lru_cache(4096)
def _glob(pattern: str, fold: bool) -> Glob:
    """What is no star is literal, in the spelling of a path."""
    return Glob(_ESCAPE.sub(_spell, _encode(pattern.partition("?")[0])), fold=fold)


def _encode(pattern: str) -> str:
    """Patterns are written by people: letters outside ASCII stand for their escapes."""
    return re.sub(r"[^!-~]", lambda letter: "".join(f"%{byte:02X}" for byte in letter[0].encode()), pattern)
