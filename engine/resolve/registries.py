"""The named groups of endpoints: which package registries `debian`, `pypi` and `npm` stand for.

No registry's name is written here. A group is what the host's own client is configured with, else what the guest
image's client is. The first question to a client takes up to a few seconds, so ask from a thread and only when a group
is used.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from engine.gateway.errors import GatewayError
from engine.gateway.policy import WEB_PORTS, Rule
from engine.resolve.clients import ClientRegistries, RegistryError, clean_urls, host_npm, host_pip, host_pypi
from engine.resolve.debian import (
    MIRROR_VARIABLE,
    DebianMirrors,
    debian_group,
    host_debian,
    mirrors_by_variable,
    mirrors_of_host,
)
from engine.secrets.tokens import tokens_in, without_tokens

_ON_HOST: Mapping[str, Callable[[], ClientRegistries | None]] = {
    "debian": debian_group,
    "npm": host_npm,
    "pypi": host_pypi,
}
GROUPS = tuple(_ON_HOST)
_CLIENTS = {"debian": "apt", "npm": "npm", "pypi": "pip"}


@dataclass(frozen=True)
class UrlCredential:
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
class ClientSettings:
    """What the guest's clients should be told so that they use the host's registries; None: leave as it is."""

    debian: DebianMirrors | None = None
    pip_index_url: str | None = None
    pip_extra_index_urls: tuple[str, ...] = ()
    pip_trusted_hosts: tuple[str, ...] = ()  # those that the host reaches without TLS
    npm_registry: str | None = None


def resolve_group(name: str, *, guest_clients: Mapping[str, list[str]] | None) -> Registry:
    """What the group `name` stands for. `guest_clients` maps groups to URLs, recorded when the image was built.

    Raises RegistryError for an unknown group, and when neither the host nor the guest has the client.
    """
    if name not in GROUPS:
        raise RegistryError(f"unknown group {name!r}", hint=f"groups are {', '.join(GROUPS)}")
    found = _ON_HOST[name]()
    if found is not None and found.urls:
        return Registry(name, found.urls, _hosts(found.urls), found.origin, from_host=True)
    urls = clean_urls((guest_clients or {}).get(name, []))
    if urls:
        return Registry(name, urls, _hosts(urls), f"guest image's {name} configuration", from_host=False)
    raise RegistryError(
        f"the group {name!r} cannot be resolved",
        "neither this host nor the guest image has a client that says which registry it uses",
        "list the registry's host names under `endpoints:` instead",
    )


def client_settings(groups: Iterable[str]) -> ClientSettings:
    """The settings for the guest's clients of these groups; empty where the host does not decide."""
    wanted = set(groups)
    pip = host_pip() if "pypi" in wanted else None
    npm = host_npm() if "npm" in wanted else None
    pip_urls = tuple(url for url in (pip.index, *pip.extra) if url) if pip else ()
    plain = [urlsplit(url).hostname or "" for url in pip_urls if url.startswith("http:")]
    return ClientSettings(
        debian=(mirrors_by_variable() or mirrors_of_host()) if "debian" in wanted else None,
        pip_index_url=pip.index if pip else None,
        pip_extra_index_urls=pip.extra if pip else (),
        pip_trusted_hosts=tuple(dict.fromkeys(plain)),
        npm_registry=npm.urls[0] if npm else None,
    )


def credentials_of(groups: Iterable[str]) -> tuple[UrlCredential, ...]:
    """What the guest would be told with the settings for these groups, and what the host's user may not know of.

    Asks the clients of all groups at once. Raises RegistryError.
    """
    wanted = sorted(set(groups))
    with ThreadPoolExecutor(max(1, len(wanted))) as pool:
        found = list(pool.map(_urls_for_guest, wanted))
    return tuple(
        UrlCredential(group, without_tokens(url), origin)
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
    by_variable = group == "debian" and mirrors_by_variable() is not None
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
    for question in (host_npm, host_pip, host_debian):
        question.cache_clear()


def _hosts(urls: Iterable[str]) -> tuple[tuple[str, int], ...]:
    found = []
    for url in urls:
        parts = urlsplit(url)
        found.append((parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme, 443)))
    return tuple(dict.fromkeys(found))
