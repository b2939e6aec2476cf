"""The package clients of this host, and which registries they are configured with.

Clients are asked by running them, away from the project's directory, and once per process.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar
from urllib.parse import urlsplit, urlunsplit

from engine.errors import EngineError
from vmm.process import ask

GUEST_CLIENTS = "clients.json"  # beside a guest image: which registries its own clients are configured with
_CLIENT_TIMEOUT_S = 5.0
_ASK_PIP = """
import json
from pip._internal.models.index import PyPI
print(json.dumps([PyPI.simple_url, PyPI.netloc, PyPI.file_storage_domain]))
"""

_Answer = TypeVar("_Answer")


class once(Generic[_Answer]):
    """A question that is asked once in the life of a process, also when two threads want to know."""

    def __init__(self, question: Callable[[], _Answer]) -> None:
        self._question = cache(question)
        self._turn = threading.Lock()
        self.cache_clear = self._question.cache_clear

    def __call__(self) -> _Answer:
        with self._turn:
            return self._question()


class RegistryError(EngineError):
    """A group or mirror that cannot be resolved."""


@dataclass(frozen=True)
class ClientRegistries:
    """The URLs of a client's registries, and whose configuration names them."""

    urls: tuple[str, ...]
    origin: str


@dataclass(frozen=True)
class PipSettings:
    """What pip is configured with: its index, further ones, and where the index keeps its files."""

    index: str | None
    extra: tuple[str, ...]
    files: tuple[str, ...]
    origin: str


@once
def host_npm() -> ClientRegistries | None:
    answer = ask_client(["npm", "config", "get", "registry"])
    urls = clean_urls([answer.strip()]) if answer else ()
    return ClientRegistries(urls, "host's npm configuration") if urls else None


@once
def host_pip() -> PipSettings | None:
    for python in dict.fromkeys((sys.executable, "python3")):
        constants = ask_client([python, "-c", _ASK_PIP]) if python else None
        listing = ask_client([python, "-m", "pip", "config", "list"]) if constants else None
        if constants and listing is not None:
            default, netloc, files = json.loads(constants)
            return _read_pip(listing, default, netloc, files)
    return None


def _read_pip(listing: str, default: str, netloc: str, files: str) -> PipSettings:
    """From `pip config list` and pip's own constants to what `pip install` would use."""
    values: dict[str, str] = {}
    for section in ("global", "install", ":env:"):  # the later wins
        for match in re.finditer(rf"^{section}\.([a-z-]+)=(.*)$", listing, re.MULTILINE):
            value = ast.literal_eval(match[2])
            values[match[1]] = str(value)
    own = values.get("index-url", "").strip()
    index = next(iter(clean_urls([own or default])), None)
    extra = clean_urls(values.get("extra-index-url", "").split())
    # The default index links to files on a host of its own; what others link to, only they know.
    on_default = any(urlsplit(url).hostname == netloc for url in (index, *extra) if url)
    origin = "host's pip configuration" if own or extra else "pip's own default on the host"
    return PipSettings(index, extra, (f"https://{files}",) if on_default else (), origin)


def host_pypi() -> ClientRegistries | None:
    pip = host_pip()
    if pip is None:
        return None
    return ClientRegistries(tuple(url for url in (pip.index, *pip.extra, *pip.files) if url), pip.origin)


def ask_client(argv: list[str]) -> str | None:
    """A client's standard output, or None when it is missing, fails or takes too long."""
    # With the user's whole environment, which may configure the client, but not from the project's directory: npm
    # would read its .npmrc, and python -m import from it. The project is not to decide what the host's configuration
    # is, still less to run code here.
    done = ask(argv, timeout_s=_CLIENT_TIMEOUT_S, env=os.environ)
    return done.stdout.decode(errors="replace") if done is not None and done.code == 0 else None


def clean_urls(urls: Iterable[str]) -> tuple[str, ...]:
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
