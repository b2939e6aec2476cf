"""Packages of the npm registry, fetched by this host as data: nothing in them is run here, and nothing is unpacked.

A package is taken when it has the digest that was asked for, or that the registry's own list says. The registry is the
one that the host's npm is configured with, as everywhere.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from engine.agents.packages import Wanted
from engine.errors import EngineError
from sandboxfile.diagnostics import one_of

READ_S = 60.0  # without a byte of an answer
ATTEMPTS = 3
CHUNK = 1 << 20
MOST_BYTES = 2 << 30  # of a package; the largest agent has 175 MB
MOST_LIST_BYTES = 64 << 20
_SHORT_LIST = "application/vnd.npm.install-v1+json"  # of npm's registry API: versions and digests, without readmes
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]{0,99}")
_INTEGRITY = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")


class CutOffError(ConnectionError):
    """The connection ended before the package did."""


class NotThere(Exception):
    """The registry has nothing under this URL."""


def fetch_package(
    wanted: Wanted, registry: str, target: Path, log: Callable[[str], None], cancelled: threading.Event
) -> str:
    """Download a package to the file `target`. Returns its digest, which has been checked.

    Takes as long as the registry answers: READ_S seconds without a byte are an error, ATTEMPTS times. Raises
    EngineError for a version that does not exist, a digest that differs, and a registry that cannot be reached.
    """
    url, integrity = _tarball_url(registry, wanted.name, wanted.version), wanted.integrity
    if integrity is None:
        url, integrity = _look_up(wanted, registry)
    try:
        found = _download(url, target, log, cancelled)
    except NotThere:  # a registry that keeps its packages elsewhere
        url, listed = _look_up(wanted, registry)
        found = _download(url, target, log, cancelled)
        integrity = wanted.integrity or listed
    if found != integrity:
        raise EngineError(
            f"{wanted.label} is not the package that it should be",
            f"expected {integrity}\ngot      {found}",
            "the registry, or something on the way to it, has changed the package: it was not installed. "
            f"`npm view {wanted.name}@{wanted.version} dist.integrity` says what your registry claims",
        )
    return found


def _tarball_url(registry: str, name: str, version: str) -> str:
    """Where npm's registry has the package. Others may have it elsewhere, and say where in their list of versions."""
    return f"{registry}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"


def _look_up(wanted: Wanted, registry: str) -> tuple[str, str]:
    """The URL and the digest of a package, by the registry's list of its versions."""
    url = f"{registry}/{quote(wanted.name, safe='@')}"
    try:
        with _open(url, {"Accept": _SHORT_LIST}) as answer:
            listed = json.loads(answer.read(MOST_LIST_BYTES))
    except NotThere:
        hint = f"`npm view {wanted.name}` asks it, too: is the name right, and is this the registry that has it?"
        raise EngineError(f"the registry has no package {wanted.name}", hint=hint, exit_code=wanted.blame) from None
    except (OSError, HTTPException, ValueError) as error:
        raise _unreachable(url, error) from error
    if not isinstance(listed, dict):
        raise EngineError(f"the registry's list of {wanted.name} cannot be read")
    dist = _mapping(_mapping(_mapping(listed, "versions"), wanted.version), "dist")
    where, integrity = dist.get("tarball"), dist.get("integrity")
    if where is None:
        brief, hint = f"there is no version {wanted.version} of {wanted.name}", _other_versions(wanted, listed)
        raise EngineError(brief, hint=hint, exit_code=wanted.blame)
    if not (isinstance(where, str) and urlsplit(where).scheme in ("http", "https")):
        raise EngineError(f"the registry's list of {wanted.name} cannot be read")
    if not (isinstance(integrity, str) and _INTEGRITY.fullmatch(integrity)):
        raise EngineError(
            f"the registry has no sha512 digest of {wanted.label}", hint="a package without one cannot be checked"
        )
    return where, integrity


def _other_versions(wanted: Wanted, listed: Mapping[str, Any]) -> str:
    """Those that are most like the one that was asked for, the latest one, and how to list all. Versions are foreign
    words: what does not look like one is not shown."""
    versions = [version for version in _mapping(listed, "versions") if _VERSION.fullmatch(version)]
    near = difflib.get_close_matches(wanted.version, versions, n=3, cutoff=0.5)
    latest = _mapping(listed, "dist-tags").get("latest")
    said = [f"there is {one_of(near)}"] if near else []
    said += [f"the latest one is {latest}"] if isinstance(latest, str) and _VERSION.fullmatch(latest) else []
    return "; ".join([*said, f"`npm view {wanted.name} versions` lists all"])


def _download(url: str, target: Path, log: Callable[[str], None], cancelled: threading.Event) -> str:
    for left in reversed(range(ATTEMPTS)):
        try:
            return _download_once(url, target, log, cancelled)
        except (OSError, HTTPException) as error:
            if not left:
                raise _cut_off(url, error) if isinstance(error, CutOffError) else _unreachable(url, error) from error
            log(f"the download was cut off ({_why(error)}): once more")
    raise AssertionError("the last attempt returns or raises")


def _download_once(url: str, target: Path, log: Callable[[str], None], cancelled: threading.Event) -> str:
    digest, size, told = hashlib.sha512(), 0, 0
    with _open(url, {}) as answer, target.open("wb") as file:
        whole = int(answer.headers.get("Content-Length") or 0)
        while chunk := answer.read(CHUNK):
            if cancelled.is_set():
                raise EngineError("the download was given up")
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
            if size > MOST_BYTES:
                raise EngineError(f"the package at {urlsplit(url).hostname} is larger than {MOST_BYTES >> 30} GiB")
            if whole and size * 10 // whole > told:
                told = size * 10 // whole
                log(f"{size / 1e6:.0f} of {whole / 1e6:.0f} MB")
        if whole and size < whole:
            raise CutOffError(f"{size} of {whole} bytes came")
    return f"sha512-{base64.b64encode(digest.digest()).decode()}"


def _open(url: str, headers: Mapping[str, str]) -> Any:
    """The answer to a GET. The user's proxies and certificates count. Raises NotThere and OSError."""
    try:
        return urlopen(Request(url, headers=dict(headers)), timeout=READ_S)
    except HTTPError as error:
        with error:
            if error.code == 404:
                raise NotThere from None
        raise OSError(f"the answer was {error.code} {error.reason}") from None


def _unreachable(url: str, error: Exception) -> EngineError:
    host = urlsplit(url).hostname
    return EngineError(
        f"the package registry {host} cannot be used: {_why(error)}",
        hint="`npm config get registry` says which one it is; check the network, and the proxy variables",
    )


def _cut_off(url: str, error: Exception) -> EngineError:
    return EngineError(
        f"the download from {urlsplit(url).hostname} was cut off {ATTEMPTS} times: {_why(error)}",
        hint="nothing of it was installed; run the command again, and what has been built so far is used",
    )


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error or type(error).__name__)


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}
