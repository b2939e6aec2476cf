"""Names of hosts out of what projects and other tools' files say."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

# Where an image without a registry's name comes from.
DOCKER_HUB = ("auth.docker.io", "registry-1.docker.io", "production.cloudflare.docker.com")

_HOST = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?(:[0-9]{1,5})?")


def host_of(url: str) -> str | None:
    """`HOST` or `HOST:PORT` of an http(s), git or ssh URL, in the form of an endpoint; None where there is none."""
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


def plain_host(text: str) -> str | None:
    """`text` when it is a host's full name, with a port or without; no address and no wildcard."""
    text = text.lower().rstrip(".")
    return text if _HOST.fullmatch(text) else None


def image_hosts(image: str) -> tuple[str, ...]:
    """The hosts that pulling an image asks, as far as its name tells; none for one that is there already."""
    if not image or "$" in image or image == "scratch":
        return ()
    first, slash, _ = image.partition("/")
    if (
        not slash
        or first in ("docker.io", "index.docker.io")
        or not ("." in first or ":" in first or first == "localhost")
    ):
        return DOCKER_HUB
    host = plain_host(first)
    return (host,) if host else ()
