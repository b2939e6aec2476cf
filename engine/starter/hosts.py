"""Finding the names of hosts in URLs of projects and of other tools' files."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from sandboxfile.compose.images import plain_host


def host_of(url: str) -> str | None:
    """The `HOST` or `HOST:PORT` of an http(s), git or ssh URL, as an endpoint is written; None for any other text."""
    if len(url) > 2000:
        return None
    match = re.fullmatch(r"[A-Za-z0-9._-]+@([A-Za-z0-9.-]+):[^/].*", url)  # git@github.com:acme/shop
    if match:
        return plain_host(match[1])
    try:
        parts = urlsplit(url.removeprefix("git+"))
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https", "ssh", "git") or not parts.hostname:
        return None
    return plain_host(parts.hostname + (f":{port}" if port and port not in (80, 443) else ""))
