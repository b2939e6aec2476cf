"""The named groups of endpoints: which package registries `debian`, `pypi` and `npm` stand for.

No registry's name is written in this code. A group stands for the registries that the host's client is configured with;
where the host has no such client, for those of the guest image's client. The first question to a client takes up to a
few seconds, so ask in a thread, and only if the group is used.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from engine.gateway.errors import GatewayError
from engine.gateway.rules import WEB_PORTS, Rule
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
    """A registry whose URL holds something like a credential. `url` is without it; `origin` is where the URL is set."""

    group: str
    url: str
    origin: str


@dataclass(frozen=True)
class Registry:
    """What one group stands for.

    The URLs carry no user, password or query. Their paths may carry a credential, see `credentials_of`.
    """

    group: str
    urls: tuple[str, ...]
    hosts: tuple[tuple[str, int], ...]
    origin: str  # "host's npm configuration", ...
    from_host: bool  # the URLs come from the user's own configuration, and not from the image's

    def rules(self) -> tuple[Rule, ...]:
        """Rules that allow the group. The user's own mirrors may be on a private network.

        Raises RegistryError for a registry that is configured with an IP address: the guest can reach names only.
        """
        ports = dict.fromkeys((host, None if port in WEB_PORTS else port) for host, port in self.hosts)
        origin = f"group {self.group}"
        try:
            return tuple(Rule(host, port=port, origin=origin, private=self.from_host) for host, port in ports)
        except GatewayError as error:
            raise RegistryError(error.brief, f"it comes from the {self.origin}", "give the registry a name") from error


@dataclass(frozen=True)
class ClientSettings:
    """Settings that make the guest's clients use the host's registries. None leaves the guest's default."""

    debian: DebianMirrors | None = None
    pip_index_url: str | None = None
    pip_extra_index_urls: tuple[str, ...] = ()
    pip_trusted_hosts: tuple[str, ...] = ()  # the hosts of indexes that are configured without TLS
    npm_registry: str | None = None


def resolve_group(name: str, *, guest_clients: Mapping[str, list[str]] | None) -> Registry:
    """What the group `name` stands for. `guest_clients` maps groups to URLs; see `Registries`.

    Raises RegistryError for an unknown group, and when neither the host nor the guest image has a client for it.
    """
    if name not in GROUPS:
        raise RegistryError(f"unknown group {name!r}", hint=f"groups are {', '.join(GROUPS)}")
    on_host = _ON_HOST[name]()
    if on_host is not None and on_host.urls:
        return Registry(name, on_host.urls, _hosts(on_host.urls), on_host.origin, from_host=True)
    urls = clean_urls((guest_clients or {}).get(name, []))
    if urls:
        return Registry(name, urls, _hosts(urls), f"guest image's {name} configuration", from_host=False)
    raise RegistryError(
        f"the group {name!r} cannot be resolved",
        "neither this host nor the guest image has a client that says which registry it uses",
        "list the registry's host names under `endpoints:` instead",
    )


def client_settings(groups: Iterable[str]) -> ClientSettings:
    """The settings for the guest's clients of these groups; empty for groups that the host has no client for."""
    chosen = set(groups)
    pip = host_pip() if "pypi" in chosen else None
    npm = host_npm() if "npm" in chosen else None
    pip_urls = tuple(url for url in (pip.index, *pip.extra) if url) if pip else ()
    plain = [urlsplit(url).hostname or "" for url in pip_urls if url.startswith("http:")]
    return ClientSettings(
        debian=(mirrors_by_variable() or mirrors_of_host()) if "debian" in chosen else None,
        pip_index_url=pip.index if pip else None,
        pip_extra_index_urls=pip.extra if pip else (),
        pip_trusted_hosts=tuple(dict.fromkeys(plain)),
        npm_registry=npm.urls[0] if npm else None,
    )


def credentials_of(groups: Iterable[str]) -> tuple[UrlCredential, ...]:
    """The credentials in the URLs that the settings for these groups would give to the guest.

    The user may not know that they are in those URLs. Asks the clients of all groups at once. Raises RegistryError.
    """
    names = sorted(set(groups))
    with ThreadPoolExecutor(max(1, len(names))) as pool:
        urls_and_origins = list(pool.map(_urls_for_guest, names))
    return tuple(
        UrlCredential(group, without_tokens(url), origin)
        for group, (urls, origin) in zip(names, urls_and_origins, strict=True)
        for url in urls
        if tokens_in(url)
    )


def _urls_for_guest(group: str) -> tuple[tuple[str, ...], str]:
    """The URLs in the `client_settings` of the group, and where they come from."""
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
    """Begin to ask the host's clients, in threads, so that whoever needs the answers later waits less."""
    for group in sorted(set(groups)):
        threading.Thread(target=_ask_quietly, args=(group,), daemon=True, name=f"asking for {group}").start()


def _ask_quietly(group: str) -> None:
    with contextlib.suppress(Exception):  # whoever needs the answer asks again, and gets the error
        client_settings([group])


def forget() -> None:
    """Forget the answers of the host's clients, so that they are asked again the next time."""
    for question in (host_npm, host_pip, host_debian):
        question.cache_clear()


def _hosts(urls: Iterable[str]) -> tuple[tuple[str, int], ...]:
    hosts = []
    for url in urls:
        parts = urlsplit(url)
        hosts.append((parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme, 443)))
    return tuple(dict.fromkeys(hosts))
