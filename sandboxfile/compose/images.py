"""Names of container images, by the grammar for references of the distribution project."""

from __future__ import annotations

import re

from sandboxfile.diagnostics import quote

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_NAME = rf"(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_HOST = r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?(:[0-9]{1,5})?"
# The hosts from which an image is pulled whose name has no registry.
DOCKER_HUB = ("auth.docker.io", "registry-1.docker.io", "production.cloudflare.docker.com")
# The group of endpoints for a registry, which also knows where its layers are.
_GROUPS = {
    **dict.fromkeys(DOCKER_HUB, "docker-hub"),
    "ghcr.io": "ghcr",
    "quay.io": "quay",
    "mcr.microsoft.com": "mcr",
    **dict.fromkeys(("gcr.io", "us.gcr.io", "eu.gcr.io", "asia.gcr.io"), "gcr"),
}
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"


def check_image(text: str) -> tuple[str, str | None] | None:
    """None when `text` is the name of an image; else the problem, and a hint or None."""
    if not text:
        return "is empty", "such as postgres:17; or is a variable not set?"
    shown = quote(text)
    if match := re.match(r"[A-Za-z]+://(.*)", text):
        return f"is no image name: {shown}", f"write {match.group(1)}"
    rest, at, digest = text.partition("@")
    if at and (not re.fullmatch(_DIGEST, digest) or (digest.startswith("sha256:") and len(digest) != 71)):
        return f"has no valid digest after the @: {shown}", "such as @sha256: and 64 hexadecimal digits"
    name, tag = rest, None
    if ":" in rest.rpartition("/")[2]:
        name, _, tag = rest.rpartition(":")
    if tag is not None and not re.fullmatch(_TAG, tag):
        return f"has no valid tag after the colon: {shown}", "letters, digits, _, . and -, such as postgres:17"
    if len(name) > 255 or not re.fullmatch(_NAME, name):
        lower = text.replace(name, name.lower())
        hint = (
            f"write {lower}"
            if re.fullmatch(_NAME, name.lower())
            else "such as postgres:17 or registry.example/team/app:1"
        )
        return f"is no image name: {shown}", hint
    return None


def plain_host(text: str) -> str | None:
    """`text` in lower case, if it is the full name of a host, with or without a port; None for everything else."""
    text = text.lower().rstrip(".")
    return text if re.fullmatch(_HOST, text) else None


def image_hosts(image: str) -> tuple[str, ...]:
    """The hosts that pulling an image needs, as far as its name tells; none where nothing is pulled, or unknown."""
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


def image_endpoints(image: str) -> tuple[str, ...]:
    """The endpoints that pulling an image needs: the group of its registry, else the registry's host."""
    return tuple(dict.fromkeys(_GROUPS.get(host, host) for host in image_hosts(image)))
