"""How servers read a path, and what a path pattern means, each written a second time: slow and obvious."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Callable


def unescape(path: bytes) -> bytes:
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda escape: bytes((int(escape[1], 16),)), path)


def dots(path: bytes) -> bytes:
    out: list[bytes] = []
    for segment in path.split(b"/")[1:]:
        if segment == b"..":
            del out[-1:]
        elif segment != b".":
            out.append(segment)
    return b"/" + b"/".join(out)


def merge(path: bytes) -> bytes:
    return re.sub(rb"/+", b"/", path)


def strip(path: bytes) -> bytes:
    return re.sub(rb";[^/]*", b"", path)


def browser(path: bytes) -> bytes:
    return dots(re.sub(rb"(?i)%2e", b".", path.replace(b"\\", b"/")))


def folded(path: bytes) -> bytes:
    return unicodedata.normalize("NFKC", path.decode("utf-8", "replace")).encode()


def overlong(path: bytes) -> bytes:
    return path.replace(b"\xc0\xae", b".").replace(b"\xc0\xaf", b"/").replace(b"\xe0\x80\xaf", b"/")


SERVERS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda path: path,
    "decoding": unescape,
    "nginx": lambda path: dots(merge(unescape(path))),
    "decode, dots": lambda path: dots(unescape(path)),
    "dots, decode": lambda path: unescape(dots(path)),
    "tomcat": lambda path: dots(merge(unescape(strip(path)))),
    "spring": lambda path: merge(strip(unescape(path))),
    "browser": browser,
    "browser, decoding": lambda path: unescape(browser(path)),
    "decoding twice": lambda path: dots(merge(unescape(unescape(path)))),
    "backslashes": lambda path: dots(merge(unescape(path).replace(b"\\", b"/"))),
    "cut at NUL": lambda path: dots(merge(unescape(path).split(b"\0")[0])),
    "compatible letters": lambda path: dots(merge(folded(unescape(path)))),
    "posixpath": lambda path: posixpath.normpath(unescape(path)),
    "overlong": lambda path: dots(merge(overlong(unescape(path)))),
}
ALLOWED = ["/ok/**", "/repos/me/*/issues", "/x*y/z"]


def is_inside(path: bytes) -> bool:
    """The allowed paths, written a second time: decoded, without regard to how a byte was spelt."""
    return (
        path == b"/ok"
        or path.startswith(b"/ok/")
        or re.fullmatch(rb"/repos/me/[^/]*/issues", path, re.DOTALL) is not None
        or re.fullmatch(rb"/x[^/]*y/z", path, re.DOTALL) is not None
    )


def slow_match(pattern: list[str], path: str) -> bool:
    """The reference: by recursion over the pattern's tokens, one letter of the path after the other."""
    if not pattern:
        return not path
    first, rest = pattern[0], pattern[1:]
    if first == "/**" and not rest:
        return path == "" or path.startswith("/")
    if first == "**/":
        after = [path[at + 1 :] for at, letter in enumerate(path) if letter == "/" and "" not in path[:at].split("/")]
        return any(slow_match(rest, tail) for tail in [path, *after])
    if first in ("*", "**"):
        ends = [at for at in range(len(path) + 1) if first == "**" or "/" not in path[:at]]
        return any(slow_match(rest, path[at:]) for at in ends)
    return path.startswith(first) and slow_match(rest, path[len(first) :])


def tokens_of(pattern: str) -> list[str]:
    found = re.findall(r"/\*\*$|\*\*/|\*\*|\*|.", pattern)
    return [str(token) for token in found]
