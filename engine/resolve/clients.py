"""The package clients of this host, and which registries they are configured with.

A client is asked by running it, outside of the project's directory, once in the life of this process.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlsplit, urlunsplit

from engine.errors import EngineError
from engine.recall.watch import asking
from vmm.process import ask

GUEST_CLIENTS = "clients.json"  # a file beside a guest image: the registries that the image's clients use by default
_CLIENT_TIMEOUT_S = 5.0
_NAMES_A_FILE = re.compile(r"npm_config_(user|global)config|pip_config_file|apt_config", re.IGNORECASE)
_ASK_PIP = """
import json
from pip._internal.models.index import PyPI
print(json.dumps([PyPI.simple_url, PyPI.netloc, PyPI.file_storage_domain]))
"""

_Answer = TypeVar("_Answer")

# What configures each client: files and directories ("~" is the user's home, "<prefix>" where its program is
# installed), and beginnings of variables. From `npm help config`, `pip config debug` and apt.conf(5).
CONFIGURED_BY: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "npm": (("~/.npmrc", "<prefix>/etc/npmrc", "<prefix>/lib/node_modules/npm/npmrc"), ("npm_config_", "prefix")),
    "pip": (
        ("/etc/pip.conf", "/etc/xdg/pip", "~/.pip", "~/.config/pip", "<prefix>/pip.conf"),
        ("pip_", "xdg_config_", "virtual_env"),
    ),
    "apt": (("/etc/apt", "/var/lib/apt/lists"), ("apt_config",)),
}


class once(Generic[_Answer]):
    """A function without arguments that is called once in the life of a process, even if two threads call it."""

    def __init__(self, question: Callable[[], _Answer]) -> None:
        self._question = cache(question)
        self._turn = threading.Lock()
        self.cache_clear = self._question.cache_clear

    def __call__(self) -> _Answer:
        with self._turn:
            return self._question()


class RegistryError(EngineError):
    """A named group or a mirror cannot be resolved."""


@dataclass(frozen=True)
class ClientRegistries:
    """The URLs of a client's registries, and the configuration that they come from."""

    urls: tuple[str, ...]
    origin: str


@dataclass(frozen=True)
class PipSettings:
    """The configuration of pip: its index, further indexes, and the URLs from which the index serves its files."""

    index: str | None
    extra: tuple[str, ...]
    files: tuple[str, ...]
    origin: str


@once
def host_npm() -> ClientRegistries | None:
    """The registry of the host's npm; None when there is no npm."""
    answer = ask_client(["npm", "config", "get", "registry"])
    urls = clean_urls([answer.strip()]) if answer else ()
    return ClientRegistries(urls, "host's npm configuration") if urls else None


@once
def host_pip() -> PipSettings | None:
    """The settings of the host's pip, that of this Python or of `python3`; None when there is no pip."""
    for python in dict.fromkeys((sys.executable, "python3")):
        constants = ask_client([python, "-c", _ASK_PIP]) if python else None
        listing = ask_client([python, "-m", "pip", "config", "list"]) if constants else None
        if constants and listing is not None:
            default, netloc, files = json.loads(constants)
            return _read_pip(listing, default, netloc, files)
    return None


def _read_pip(listing: str, default: str, netloc: str, files: str) -> PipSettings:
    """What `pip install` would use, computed from `pip config list` and from pip's own constants."""
    values: dict[str, str] = {}
    for section in ("global", "install", ":env:"):  # a later section overrides the earlier ones
        for match in re.finditer(rf"^{section}\.([a-z-]+)=(.*)$", listing, re.MULTILINE):
            value = ast.literal_eval(match[2])
            values[match[1]] = str(value)
    own = values.get("index-url", "").strip()
    index = next(iter(clean_urls([own or default])), None)
    extra = clean_urls(values.get("extra-index-url", "").split())
    # The default index links to files on another host. Where other indexes keep their files is not known.
    on_default = any(urlsplit(url).hostname == netloc for url in (index, *extra) if url)
    origin = "host's pip configuration" if own or extra else "pip's own default on the host"
    return PipSettings(index, extra, (f"https://{files}",) if on_default else (), origin)


def host_pypi() -> ClientRegistries | None:
    """All registries that the host's pip uses; None when there is no pip."""
    pip = host_pip()
    if pip is None:
        return None
    return ClientRegistries(tuple(url for url in (pip.index, *pip.extra, *pip.files) if url), pip.origin)


def ask_client(argv: list[str]) -> str | None:
    """The standard output of a client; None when it is missing, fails or takes too long."""
    # The client gets the user's whole environment, which may configure it. It does not run in the project's directory:
    # npm would read the .npmrc there, and `python -m` would import modules from there. The project must not decide what
    # the host's configuration is, still less run code on the host.
    with asking(*configuration_of(argv[0])):
        done = ask(argv, timeout_s=_CLIENT_TIMEOUT_S, env=os.environ)
    return done.stdout.decode(errors="replace") if done is not None and done.code == 0 else None


def configuration_of(program: str) -> tuple[list[str], tuple[str, ...]]:
    """The files, and the beginnings of variables, that decide what a client answers; its own file is one of them."""
    client = program if program == "npm" else "apt" if program.startswith("apt") else "pip"
    files, variables = CONFIGURED_BY[client]
    path = shutil.which(program)
    places = [str(each.parent.parent) for each in (Path(path), Path(path).resolve())] if path else []
    named = [str(Path(file).expanduser()) for file in files if not file.startswith("<prefix>")]
    named += [file.replace("<prefix>", place) for file in files if file.startswith("<prefix>") for place in places]
    if client == "pip":
        roots = [os.environ.get("XDG_CONFIG_HOME", ""), *os.environ.get("XDG_CONFIG_DIRS", "").split(":")]
        named += [f"{root}/pip" for root in roots if root]
    named += [value for name, value in os.environ.items() if _NAMES_A_FILE.fullmatch(name)]
    return [*named, *([path] if path else [])], variables


def clean_urls(urls: Iterable[str]) -> tuple[str, ...]:
    """The http(s) URLs among `urls`, each once, without credentials, query and trailing slash."""
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
