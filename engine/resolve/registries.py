"""The named groups of endpoints: which package registries `debian`, `pypi` and `npm` stand for.

No registry's name is written here. A group is what the host's own client is configured with, else what the guest
image's client is. Clients are asked by running them, away from the project's directory, and once per process: these
calls take up to a few seconds the first time, so call them from a thread and only when a group is used.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlsplit, urlunsplit

from engine.gateway.errors import GatewayError
from engine.gateway.policy import WEB_PORTS, Rule
from engine.secrets.tokens import tokens_in, without_tokens

MIRROR_VARIABLE = "SANDBOX_DEBIAN_MIRROR"  # "ARCHIVE_URL [SECURITY_URL]"

_CLIENT_TIMEOUT_S = 5.0
_DEBIAN_COMPONENTS = frozenset({"main", "contrib", "non-free", "non-free-firmware"})
_ASK_PIP = """
import json
from pip._internal.models.index import PyPI
print(json.dumps([PyPI.simple_url, PyPI.netloc, PyPI.file_storage_domain]))
"""


_Answer = TypeVar("_Answer")


class _once(Generic[_Answer]):
    """A question that is asked once in the life of a process, also when two threads want to know."""

    def __init__(self, question: Callable[[], _Answer]) -> None:
        self._question = cache(question)
        self._turn = threading.Lock()
        self.cache_clear = self._question.cache_clear

    def __call__(self) -> _Answer:
        with self._turn:
            return self._question()


class RegistryError(Exception):
    """A group or mirror that cannot be resolved."""

    def __init__(self, brief: str, details: str | None = None, hint: str | None = None) -> None:
        super().__init__(brief)
        self.brief = brief
        self.details = details
        self.hint = hint


@dataclass(frozen=True)
class Credential:
    """What looks like a credential in a registry's URL. `url` has it left out, `origin` says whose it is."""

    group: str
    url: str
    origin: str


@dataclass(frozen=True)
class Registry:
    """What one group stands for. URLs carry no user, password or query; of their paths see `credentials_of`."""

    group: str
    urls: tuple[str, ...]
    hosts: tuple[tuple[str, int], ...]
    origin: str  # "host's npm configuration", ...
    from_host: bool  # the user's own configuration, as against the image's

    def rules(self) -> tuple[Rule, ...]:
        """Rules that allow the group. The user's own mirrors may be on a private network.

        Raises RegistryError for a registry that is configured by address: the guest reaches names only.
        """
        ports = dict.fromkeys((host, None if port in WEB_PORTS else port) for host, port in self.hosts)
        origin = f"group {self.group}"
        try:
            return tuple(Rule(host, port=port, origin=origin, private=self.from_host) for host, port in ports)
        except GatewayError as error:
            raise RegistryError(error.brief, f"it comes from the {self.origin}", "give the registry a name") from error


@dataclass(frozen=True)
class DebianMirrors:
    """Base URLs, without a trailing slash; `security` None when the host has no security archive configured."""

    archive: str
    security: str | None


@dataclass(frozen=True)
class ClientSettings:
    """What the guest's clients should be told so that they use the host's registries; None: leave as it is."""

    debian: DebianMirrors | None = None
    pip_index_url: str | None = None
    pip_extra_index_urls: tuple[str, ...] = ()
    pip_trusted_hosts: tuple[str, ...] = ()  # those that the host reaches without TLS
    npm_registry: str | None = None


@dataclass(frozen=True)
class _Found:
    urls: tuple[str, ...]
    origin: str


@dataclass(frozen=True)
class _Pip:
    index: str | None
    extra: tuple[str, ...]
    files: tuple[str, ...]
    origin: str


def resolve_group(name: str, *, guest_clients: Mapping[str, list[str]] | None) -> Registry:
    """What the group `name` stands for. `guest_clients` maps groups to URLs, recorded when the image was built.

    Raises RegistryError for an unknown group, and when neither the host nor the guest has the client.
    """
    if name not in GROUPS:
        raise RegistryError(f"unknown group {name!r}", hint=f"groups are {', '.join(GROUPS)}")
    found = _ON_HOST[name]()
    if found is not None and found.urls:
        return Registry(name, found.urls, _hosts(found.urls), found.origin, from_host=True)
    urls = _clean((guest_clients or {}).get(name, []))
    if urls:
        return Registry(name, urls, _hosts(urls), f"guest image's {name} configuration", from_host=False)
    raise RegistryError(
        f"the group {name!r} cannot be resolved",
        "neither this host nor the guest image has a client that says which registry it uses",
        "list the registry's host names under `endpoints:` instead",
    )


def debian_mirrors() -> DebianMirrors:
    """Debian's archives as the host's apt is configured, or as SANDBOX_DEBIAN_MIRROR says. Raises RegistryError."""
    mirrors = _mirrors_by_variable() or _mirrors_of_host()
    if mirrors is None:
        raise RegistryError(
            "no Debian mirror is known",
            "this host has no apt that is configured with Debian's archive",
            f"set {MIRROR_VARIABLE} to 'ARCHIVE_URL [SECURITY_URL]'",
        )
    return mirrors


def client_settings(groups: Iterable[str]) -> ClientSettings:
    """The settings for the guest's clients of these groups; empty where the host does not decide."""
    wanted = set(groups)
    pip = _host_pip() if "pypi" in wanted else None
    npm = _host_npm() if "npm" in wanted else None
    pip_urls = tuple(url for url in (pip.index, *pip.extra) if url) if pip else ()
    plain = [urlsplit(url).hostname or "" for url in pip_urls if url.startswith("http:")]
    return ClientSettings(
        debian=(_mirrors_by_variable() or _mirrors_of_host()) if "debian" in wanted else None,
        pip_index_url=pip.index if pip else None,
        pip_extra_index_urls=pip.extra if pip else (),
        pip_trusted_hosts=tuple(dict.fromkeys(plain)),
        npm_registry=npm.urls[0] if npm else None,
    )


def credentials_of(groups: Iterable[str]) -> tuple[Credential, ...]:
    """What the guest would be told with the settings for these groups, and what the host's user may not know of.

    Asks the clients of all groups at once. Raises RegistryError.
    """
    wanted = sorted(set(groups))
    with ThreadPoolExecutor(max(1, len(wanted))) as pool:
        found = list(pool.map(_urls_for_guest, wanted))
    return tuple(
        Credential(group, without_tokens(url), origin)
        for group, (urls, origin) in zip(wanted, found, strict=True)
        for url in urls
        if tokens_in(url)
    )


def _urls_for_guest(group: str) -> tuple[tuple[str, ...], str]:
    """The URLs that `client_settings` has for the group, and where they come from."""
    settings = client_settings([group])
    mirrors = settings.debian
    urls = (
        *((mirrors.archive, mirrors.security) if mirrors else ()),
        settings.pip_index_url,
        *settings.pip_extra_index_urls,
        settings.npm_registry,
    )
    by_variable = group == "debian" and _mirrors_by_variable() is not None
    origin = MIRROR_VARIABLE if by_variable else f"host's {_CLIENTS[group]} configuration"
    return tuple(url for url in urls if url), origin


def ask_ahead(groups: Iterable[str]) -> None:
    """Begin to ask the host's clients: whoever needs their answers a moment later does not wait as long."""
    for group in sorted(set(groups)):
        threading.Thread(target=_ask_quietly, args=(group,), daemon=True, name=f"asking for {group}").start()


def _ask_quietly(group: str) -> None:
    with contextlib.suppress(Exception):  # who needs the answer is told
        client_settings([group])


def forget() -> None:
    """Ask the host's clients again the next time."""
    for question in (_host_npm, _host_pip, _host_debian):
        question.cache_clear()


# --- npm


@_once
def _host_npm() -> _Found | None:
    answer = _ask(["npm", "config", "get", "registry"])
    urls = _clean([answer.strip()]) if answer else ()
    return _Found(urls, "host's npm configuration") if urls else None


# --- pip


@_once
def _host_pip() -> _Pip | None:
    for python in dict.fromkeys((sys.executable, "python3")):
        constants = _ask([python, "-c", _ASK_PIP]) if python else None
        listing = _ask([python, "-m", "pip", "config", "list"]) if constants else None
        if constants and listing is not None:
            default, netloc, files = json.loads(constants)
            return _read_pip(listing, default, netloc, files)
    return None


def _read_pip(listing: str, default: str, netloc: str, files: str) -> _Pip:
    """From `pip config list` and pip's own constants to what `pip install` would use."""
    values: dict[str, str] = {}
    for section in ("global", "install", ":env:"):  # the later wins
        for match in re.finditer(rf"^{section}\.([a-z-]+)=(.*)$", listing, re.MULTILINE):
            value = ast.literal_eval(match[2])
            values[match[1]] = str(value)
    own = values.get("index-url", "").strip()
    index = next(iter(_clean([own or default])), None)
    extra = _clean(values.get("extra-index-url", "").split())
    # The default index links to files on a host of its own; what others link to, only they know.
    on_default = any(urlsplit(url).hostname == netloc for url in (index, *extra) if url)
    origin = "host's pip configuration" if own or extra else "pip's own default on the host"
    return _Pip(index, extra, (f"https://{files}",) if on_default else (), origin)


def _host_pypi() -> _Found | None:
    pip = _host_pip()
    if pip is None:
        return None
    return _Found(tuple(url for url in (pip.index, *pip.extra, *pip.files) if url), pip.origin)


# --- Debian


@dataclass(frozen=True)
class _Source:
    url: str
    security: bool


def _mirrors_by_variable() -> DebianMirrors | None:
    words = os.environ.get(MIRROR_VARIABLE, "").split()
    if not words:
        return None
    urls = _clean(words)
    if len(urls) != len(words) or len(urls) > 2:
        raise RegistryError(f"{MIRROR_VARIABLE} must be one or two http(s) URLs", hint="'ARCHIVE_URL [SECURITY_URL]'")
    return DebianMirrors(urls[0], urls[1] if len(urls) == 2 else None)


def _mirrors_of_host() -> DebianMirrors | None:
    sources = _host_debian()[0]
    archive = next((source.url for source in sources if not source.security), None)
    security = next((source.url for source in sources if source.security), None)
    return DebianMirrors(archive, security) if archive else None


def _debian_group() -> _Found | None:
    chosen = _mirrors_by_variable()
    if chosen is not None:
        return _Found(tuple(url for url in (chosen.archive, chosen.security) if url), MIRROR_VARIABLE)
    sources, origin = _host_debian()
    return _Found(tuple(dict.fromkeys(source.url for source in sources)), origin) if sources else None


@_once
def _host_debian() -> tuple[tuple[_Source, ...], str]:
    """Debian's own archives among the host's apt sources, and where that was read."""
    listing = _ask(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)|$(ORIGIN)|$(LABEL)|$(RELEASE)", "Created-By: Packages"]
    )
    if listing and (sources := tuple(_read_indextargets(listing))):
        return sources, "host's apt configuration"
    # Origins are in the archive's lists, and this host has not downloaded any: read what apt would read.
    places = _ask(["apt-config", "shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"])
    named = dict(word.split("=", 1) for word in shlex.split(places or "") if "=" in word)
    parts = Path(named["PARTS"]) if named.get("PARTS") else None
    files = [Path(named["LIST"])] if named.get("LIST") else []
    if parts is not None and parts.is_dir():
        files += sorted(path for path in parts.iterdir() if path.suffix in (".list", ".sources"))
    found = [source for path in files for source in _read_sources(_text(path), deb822=path.suffix == ".sources")]
    return tuple(found), "host's apt sources"


def _read_indextargets(listing: str) -> Iterator[_Source]:
    for line in listing.splitlines():
        uri, origin, label, release = (line.split("|") + [""] * 4)[:4]
        if origin == "Debian":
            security = label == "Debian-Security" or release.endswith("-security")
            yield from (_Source(url, security) for url in _apt_urls(uri))


def _read_sources(text: str, *, deb822: bool) -> Iterator[_Source]:
    """Debian's own entries of one sources file, in either of apt's two formats."""
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
    # Unsigned by name, apt takes any trusted key. Others publish under ".../debian" too, but not these components.
    return url.endswith(("/debian", "/debian-security")) and bool(components) and set(components) <= _DEBIAN_COMPONENTS


def _apt_urls(uri: str) -> tuple[str, ...]:
    """An apt URI as URLs: `mirror+file:` (cloud images use it) names a file of them."""
    if uri.startswith("mirror+file:"):
        listed = _text(Path("/" + uri.removeprefix("mirror+file:").strip("/")))
        return _clean(line.split()[0] for line in listed.splitlines() if line.strip() and not line.startswith("#"))
    return _clean([uri])


# --- all of them


_ON_HOST: Mapping[str, Callable[[], _Found | None]] = {
    "debian": _debian_group,
    "npm": _host_npm,
    "pypi": _host_pypi,
}
GROUPS = tuple(_ON_HOST)
_CLIENTS = {"debian": "apt", "npm": "npm", "pypi": "pip"}


def _ask(argv: list[str]) -> str | None:
    """A client's standard output, or None when it is missing, fails or takes too long."""
    program = shutil.which(argv[0])
    if program is None:
        return None
    try:
        # From the root directory: npm would read the project's .npmrc, and python -m import from the current
        # directory. The project is not to decide what the host's configuration is, still less to run code here.
        done = subprocess.run(
            [program, *argv[1:]],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_CLIENT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _clean(urls: Iterable[str]) -> tuple[str, ...]:
    """The http(s) URLs among these, each once, without credentials, query and trailing slash."""
    cleaned = []
    for url in urls:
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname, parts.port
        except ValueError:
            continue
        if parts.scheme in ("http", "https") and host:
            name = f"[{host}]" if ":" in host else host
            netloc = f"{name}:{port}" if port else name
            cleaned.append(urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", "")))
    return tuple(dict.fromkeys(cleaned))


def _hosts(urls: Iterable[str]) -> tuple[tuple[str, int], ...]:
    found = []
    for url in urls:
        parts = urlsplit(url)
        found.append((parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme, 443)))
    return tuple(dict.fromkeys(found))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
