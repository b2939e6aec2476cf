"""What looks like a credential in the path of a URL: `https://dl.example.com/TOKEN/simple`."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import urlsplit, urlunsplit

from engine.secrets.secrecy import is_private_name

LEFT_OUT = "..."
_LONG, _HEX = 16, 32
_TURNS = 4  # between capitals, small letters and digits: `python3packages` has two, a token many
_BITS = 2.7  # of a character, in words and dates less
_PREFIXES = re.compile(
    r"(gh[opsu]_|github_pat_|glpat-|dckr_pat_|hvs\.|AKCp|eyJ)[A-Za-z0-9_.-]{16,}|npm_[A-Za-z0-9]{30,}"
)
_DATE = re.compile(r"\d{8}(T\d{6}Z?)?")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def tokens_in(url: str) -> tuple[str, ...]:
    """The segments of the URL's path that look like credentials, by their looks alone."""
    return tuple(segment for segment in urlsplit(url).path.split("/") if _is_token(segment))


def without_tokens(url: str) -> str:
    """The URL with `...` in the place of each."""
    parts = urlsplit(url)
    path = "/".join(LEFT_OUT if _is_token(segment) else segment for segment in parts.path.split("/"))
    return urlunsplit(parts._replace(path=path))


def _is_token(segment: str) -> bool:
    for name in re.findall(r"(?:^|[;,:&])([A-Za-z_-]+)(?=[=:])", segment):  # ;_authToken=...
        if is_private_name(name):
            return True
    if _UUID.fullmatch(segment) or _PREFIXES.fullmatch(segment):
        return True
    return any(_is_random(run) for run in _runs(segment))


def _runs(segment: str) -> Iterator[str]:
    yield from (run for run in re.split(r"[^A-Za-z0-9]+", segment) if len(run) >= _LONG and not _DATE.fullmatch(run))


def _is_random(run: str) -> bool:
    count = len(run)
    bits = -sum(n / count * math.log2(n / count) for n in Counter(run).values())
    if bits < _BITS:
        return False
    if count >= _HEX and re.fullmatch("[0-9a-f]+|[0-9A-F]+", run):
        return True
    return sum(_kind(one) != _kind(other) for one, other in pairwise(run)) >= _TURNS


def _kind(char: str) -> int:
    return 0 if char.isdigit() else 1 if char.islower() else 2
