"""Which path of the host is which of the guest: the live mounts, from both sides."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

_KEPT = ":,-=&%"  # of what follows a path, beside letters and digits


class Outside(Exception):
    """A path of the host that the guest has no counterpart of."""


class Place(NamedTuple):
    """One live mount: an absolute path of the host, and one of the guest."""

    host: str
    guest: str


class Places:
    """The mounts of the sandbox `name`. A path within several of them belongs to the innermost one."""

    def __init__(self, name: str, mounts: Iterable[Place]) -> None:
        self._name = name
        self._mounts = [Place(posixpath.normpath(host), posixpath.normpath(guest)) for host, guest in mounts]

    def to_guest(self, path: str) -> str:
        """The guest's name of a path of the host, which may lead there through links. Raises Outside."""
        if path.startswith("/") and "\0" not in path:
            for each in (posixpath.normpath(path), _real(path)):
                if (found := _move(each, self._mounts)) is not None:
                    return found
        raise Outside(path)

    def to_host(self, path: str) -> str | None:
        """The host's name of a path of the guest; None where the host has no such file. No file is looked at."""
        return _move(posixpath.normpath(path), [Place(guest, host) for host, guest in self._mounts])

    def stand_in(self, path: str) -> str:
        """A name for a path of the guest that the host has no file of: of no file of the host, whatever it says."""
        return f"/{self._name}.sandbox/{posixpath.normpath('/' + path).strip('/')}"

    def uri_to_guest(self, uri: str) -> str:
        """A file's URI with the guest's path; any other URI, and that of a file outside, is left as it is."""
        path = _path_of(uri)
        try:
            return uri if path is None else _uri_of(uri, self.to_guest(path))
        except Outside:
            return uri

    def uri_to_host(self, uri: str) -> str:
        """A file's URI with the host's path, or with one of no file where it has none; any other is left as it is."""
        if not _is_file(uri):
            return uri
        path = _path_of(uri)
        found = self.to_host(path) if path is not None else None
        return _uri_of(uri, found if found is not None else self.stand_in(path or ""))


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # no file can have this name
        return path


def _move(path: str, mounts: Iterable[Place]) -> str | None:
    """The path below the second of the mount that has the longest first one that it is below."""
    if not path.startswith("/") or "\0" in path:
        return None
    found = [each for each in mounts if PurePosixPath(path).is_relative_to(each[0])]
    if not found:
        return None
    source, target = max(found, key=lambda each: len(each[0]))
    return posixpath.normpath(posixpath.join(target, posixpath.relpath(path, source)))


def _is_file(uri: str) -> bool:
    """As the most generous reader would read it: that leaves out what is no character of a URI."""
    return re.sub(r"[\x00-\x20]", "", uri).lower().startswith("file:")


def _path_of(uri: str) -> str | None:
    """The path in a file's URI of this machine; None for every other URI."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    if parts.scheme.lower() != "file" or parts.netloc.lower() not in ("", "localhost"):
        return None
    return unquote(parts.path)


def _uri_of(uri: str, path: str) -> str:
    """The URI of `path`, with what the old one says after its path, such as lines: #L10:20."""
    query, fragment = urlsplit(uri)[3:] if _path_of(uri) is not None else ("", "")
    words = [(sign, quote(text, _KEPT, errors="replace")) for sign, text in (("?", query), ("#", fragment)) if text]
    return "file://" + quote(path, errors="replace") + "".join(f"{sign}{text}" for sign, text in words)
