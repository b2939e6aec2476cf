"""Debian's archives, as this host's apt is configured to use them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.resolve import clients
from engine.resolve.clients import ClientRegistries, RegistryError, clean_urls, once

SUITE = "trixie"  # the release that the toolchain, the guest image and the guest's own apt use
MIRROR_VARIABLE = "SANDBOX_DEBIAN_MIRROR"  # "ARCHIVE_URL [SECURITY_URL]"

_DEBIAN_COMPONENTS = frozenset({"main", "contrib", "non-free", "non-free-firmware"})


@dataclass(frozen=True)
class DebianMirrors:
    """Base URLs, without a trailing slash. `security` is None when the host has no security archive configured."""

    archive: str
    security: str | None


def debian_mirrors() -> DebianMirrors:
    """The archives that SANDBOX_DEBIAN_MIRROR names, else those of the host's apt. Raises RegistryError for none."""
    mirrors = mirrors_by_variable() or mirrors_of_host()
    if mirrors is None:
        raise RegistryError(
            "no Debian mirror is known",
            "this host has no apt that is configured with Debian's archive",
            f"set {MIRROR_VARIABLE} to 'ARCHIVE_URL [SECURITY_URL]'",
        )
    return mirrors


def source_lines(mirrors: DebianMirrors, suite: str, options: str = "") -> list[str]:
    """Lines for apt's sources.list: the suite, its updates and, if there is a mirror for them, its security updates."""
    archive = mirrors.archive.rstrip("/")
    lines = [f"deb {options}{archive} {name} main" for name in (suite, f"{suite}-updates")]
    if mirrors.security:
        lines.append(f"deb {options}{mirrors.security.rstrip('/')} {suite}-security main")
    return lines


@dataclass(frozen=True)
class _Source:
    url: str
    security: bool


def mirrors_by_variable() -> DebianMirrors | None:
    """The archives that SANDBOX_DEBIAN_MIRROR names, None when it is empty.

    Raises RegistryError for anything but URLs.
    """
    words = os.environ.get(MIRROR_VARIABLE, "").split()
    if not words:
        return None
    urls = clean_urls(words)
    if len(urls) != len(words) or len(urls) > 2:
        raise RegistryError(f"{MIRROR_VARIABLE} must be one or two http(s) URLs", hint="'ARCHIVE_URL [SECURITY_URL]'")
    return DebianMirrors(urls[0], urls[1] if len(urls) == 2 else None)


def mirrors_of_host() -> DebianMirrors | None:
    """The archives that the host's apt uses; None when it uses none of Debian's."""
    sources = host_debian()[0]
    archive = next((source.url for source in sources if not source.security), None)
    security = next((source.url for source in sources if source.security), None)
    return DebianMirrors(archive, security) if archive else None


def debian_group() -> ClientRegistries | None:
    """The registries of the group `debian`; None when nothing names any."""
    chosen = mirrors_by_variable()
    if chosen is not None:
        return ClientRegistries(tuple(url for url in (chosen.archive, chosen.security) if url), MIRROR_VARIABLE)
    sources, origin = host_debian()
    return ClientRegistries(tuple(dict.fromkeys(source.url for source in sources)), origin) if sources else None


@once
def host_debian() -> tuple[tuple[_Source, ...], str]:
    """Debian's own archives among the apt sources of the host, and a description of where they were read."""
    listing = clients.ask_client(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)|$(ORIGIN)|$(LABEL)|$(RELEASE)", "Created-By: Packages"]
    )
    if listing and (sources := tuple(_read_indextargets(listing))):
        return sources, "host's apt configuration"
    # apt knows the origin of an archive from its package lists. Without downloaded lists, read apt's sources ourselves.
    places = clients.ask_client(
        ["apt-config", "shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"]
    )
    named = dict(word.split("=", 1) for word in shlex.split(places or "") if "=" in word)
    parts = Path(named["PARTS"]) if named.get("PARTS") else None
    files = [Path(named["LIST"])] if named.get("LIST") else []
    if parts is not None and parts.is_dir():
        files += sorted(path for path in parts.iterdir() if path.suffix in (".list", ".sources"))
    sources = tuple(source for path in files for source in _read_sources(_text(path), deb822=path.suffix == ".sources"))
    return sources, "host's apt sources"


def _read_indextargets(listing: str) -> Iterator[_Source]:
    for line in listing.splitlines():
        uri, origin, label, release = (line.split("|") + [""] * 4)[:4]
        if origin == "Debian":
            security = label == "Debian-Security" or release.endswith("-security")
            yield from (_Source(url, security) for url in _apt_urls(uri))


def _read_sources(text: str, *, deb822: bool) -> Iterator[_Source]:
    """The entries of one sources file that are Debian's own. The file may have either of apt's two formats."""
    for entry in _read_deb822(text) if deb822 else _read_one_line(text):
        words = {key: value.split() for key, value in entry.items()}
        if "deb" not in words.get("types", ()) or entry.get("enabled", "yes").strip().lower() in ("no", "false", "0"):
            continue
        for uri in words.get("uris", ()):
            for url in _apt_urls(uri):
                if _is_debian(url, words.get("signed-by", []), words.get("components", [])):
                    suites = words.get("suites", [])
                    security = any(suite.endswith(("-security", "/updates")) for suite in suites)
                    yield _Source(url, security or url.endswith("/debian-security"))


def _read_deb822(text: str) -> Iterator[dict[str, str]]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n[ \t]*\n", "\n".join(lines)):
        fields = re.findall(r"^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE)
        yield {name.lower(): value for name, value in fields}


def _read_one_line(text: str) -> Iterator[dict[str, str]]:
    for match in re.finditer(r"^[ \t]*(deb)[ \t]+(?:\[([^\]]*)\][ \t]+)?(\S+)[ \t]+(\S+)([^#\n]*)", text, re.MULTILINE):
        options = dict(option.split("=", 1) for option in (match[2] or "").split() if "=" in option)
        entry = {"types": match[1], "uris": match[3], "suites": match[4], "components": match[5]}
        yield entry | {key.lower(): value.replace(",", " ") for key, value in options.items()}


def _is_debian(url: str, signed_by: list[str], components: list[str]) -> bool:
    if signed_by:
        return all(Path(keyring).name.startswith("debian-archive") for keyring in signed_by)
    # An entry that names no key may be anybody's. Others publish under ".../debian" too, but not with these components.
    return url.endswith(("/debian", "/debian-security")) and bool(components) and set(components) <= _DEBIAN_COMPONENTS


def _apt_urls(uri: str) -> tuple[str, ...]:
    """The URLs of an apt URI. `mirror+file:`, which cloud images use, names a file that lists URLs."""
    if uri.startswith("mirror+file:"):
        listed = _text(Path("/" + uri.removeprefix("mirror+file:").strip("/")))
        return clean_urls(line.split()[0] for line in listed.splitlines() if line.strip() and not line.startswith("#"))
    return clean_urls([uri])


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
