"""Packages from a registry that may be slow, cut off, elsewhere or hostile; the package is the right one, or none."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine.agents.packages import Wanted
from engine.build import npm_registry
from engine.build.npm_registry import fetch_package
from engine.errors import EngineError

TARBALL = b"a package " * 100_000
DIGEST = "sha512-" + base64.b64encode(hashlib.sha512(TARBALL).digest()).decode()
OTHER = "sha512-" + base64.b64encode(hashlib.sha512(b"x").digest()).decode()
USUAL = "/@acme/agent/-/agent-1.2.3.tgz"


class Registry:
    """What a registry answers to each path; `asked` are the paths in their order."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[str] = []
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}

    def has(self, path: str, body: bytes, status: int = 200, length: int | None = None) -> None:
        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(status)
            request.send_header("content-length", str(len(body) if length is None else length))
            request.end_headers()
            request.wfile.write(body)

        self.answers[path] = answer

    def lists(self, dist: dict[str, str], version: str = "1.2.3", *others: str) -> None:
        listed = {"dist-tags": {"latest": version}, "versions": {one: {"dist": dist} for one in (version, *others)}}
        self.has("/@acme%2Fagent", json.dumps(listed).encode())


@pytest.fixture
def registry() -> Iterator[Registry]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            if (answer := found.answers.get(self.path)) is None:
                self.send_error(404)
            else:
                answer(self)

        def log_message(self, *words: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Registry(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


def fetch(registry: Registry, tmp_path: Path, integrity: str | None = DIGEST, version: str = "1.2.3") -> list[str]:
    lines: list[str] = []
    wanted = Wanted("@acme/agent", version, integrity)
    fetch_package(wanted, registry.url, tmp_path / "package.tgz", lines.append, threading.Event())
    assert (tmp_path / "package.tgz").read_bytes() == TARBALL
    return lines


def test_the_package_is_where_npm_has_it(registry: Registry, tmp_path: Path) -> None:
    registry.has(USUAL, TARBALL)
    lines = fetch(registry, tmp_path)
    assert registry.asked == [USUAL] and lines[-1] == "1 of 1 MB"


def test_a_registry_that_has_it_elsewhere(registry: Registry, tmp_path: Path) -> None:
    registry.lists({"tarball": f"{registry.url}/files/7", "integrity": OTHER})
    registry.has("/files/7", TARBALL)
    fetch(registry, tmp_path)  # the digest of the definition counts, not the registry's
    assert registry.asked == [USUAL, "/@acme%2Fagent", "/files/7"]


def test_a_version_that_the_definition_does_not_know(registry: Registry, tmp_path: Path) -> None:
    registry.lists({"tarball": f"{registry.url}/files/7", "integrity": DIGEST})
    registry.has("/files/7", TARBALL)
    fetch(registry, tmp_path, integrity=None)
    registry.lists({"tarball": f"{registry.url}/files/7"})
    with pytest.raises(EngineError, match="no sha512 digest"):
        fetch(registry, tmp_path, integrity=None)
    registry.lists({"tarball": "file:///etc/passwd", "integrity": DIGEST})
    with pytest.raises(EngineError, match="cannot be read"):
        fetch(registry, tmp_path, integrity=None)


@pytest.mark.parametrize("known", [DIGEST, None], ids=["a definition's", "the registry's"])
def test_another_package_is_none(registry: Registry, tmp_path: Path, known: str | None) -> None:
    registry.lists({"tarball": f"{registry.url}{USUAL}", "integrity": DIGEST})
    registry.has(USUAL, TARBALL[:-1] + b"!")
    with pytest.raises(EngineError, match="is not the package that it should be") as caught:
        fetch(registry, tmp_path, integrity=known)
    assert DIGEST in str(caught.value.details) and "not installed" in str(caught.value.hint)
    assert "`npm view @acme/agent@1.2.3 dist.integrity`" in str(caught.value.hint) and caught.value.exit_code == 1


def test_a_version_that_does_not_exist(registry: Registry, tmp_path: Path) -> None:
    others = ("1.2.2", "1.2.1", "0.0.1-evil\x1b[31m", "7")
    registry.lists({"tarball": "x", "integrity": DIGEST}, "1.4.0", *others)
    with pytest.raises(EngineError, match=r"there is no version 1\.2\.9 of @acme/agent") as caught:
        fetch(registry, tmp_path, integrity=None, version="1.2.9")
    nearest = "there is 1.2.2, 1.2.1 or 1.4.0; the latest one is 1.4.0"
    assert caught.value.hint == f"{nearest}; `npm view @acme/agent versions` lists all"
    assert caught.value.exit_code == 2, "the user's file names it"
    with pytest.raises(EngineError, match="there is no version") as caught:
        fetch(registry, tmp_path, integrity=DIGEST, version="yesterday")
    assert caught.value.hint == "the latest one is 1.4.0; `npm view @acme/agent versions` lists all"
    assert caught.value.exit_code == 1, "the definition names it"


def test_a_package_that_does_not_exist(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="the registry has no package @acme/agent") as caught:
        fetch(registry, tmp_path, integrity=None)
    assert "`npm view @acme/agent`" in str(caught.value.hint) and caught.value.exit_code == 2


def test_a_download_that_is_cut_off_is_tried_again(registry: Registry, tmp_path: Path) -> None:
    registry.has(USUAL, TARBALL[:1000], length=len(TARBALL))
    whole = Registry.has
    cut = registry.answers[USUAL]

    def first_cut(request: BaseHTTPRequestHandler) -> None:
        cut(request)
        whole(registry, USUAL, TARBALL)

    registry.answers[USUAL] = first_cut
    assert "once more" in fetch(registry, tmp_path)[0]


def test_a_download_that_is_always_cut_off(registry: Registry, tmp_path: Path) -> None:
    registry.has(USUAL, TARBALL[:1000], length=len(TARBALL))
    with pytest.raises(EngineError, match=r"127\.0\.0\.1 was cut off 3 times: 1000 of 1000000 bytes came") as caught:
        fetch(registry, tmp_path)
    assert "run the command again" in str(caught.value.hint) and caught.value.exit_code == 1


def test_a_registry_that_cannot_be_used(registry: Registry, tmp_path: Path) -> None:
    registry.has(USUAL, b"no", status=503)
    with pytest.raises(EngineError, match=r"127\.0\.0\.1 cannot be used: the answer was 503"):
        fetch(registry, tmp_path)
    assert len(registry.asked) == npm_registry.ATTEMPTS
    registry.has("/@acme%2Fagent", b"[]")
    with pytest.raises(EngineError, match="cannot be read"):
        fetch(registry, tmp_path, integrity=None)
    registry.has("/@acme%2Fagent", b"{")
    with pytest.raises(EngineError, match="cannot be used"):
        fetch(registry, tmp_path, integrity=None)


def test_it_can_be_given_up(registry: Registry, tmp_path: Path) -> None:
    registry.has(USUAL, TARBALL)
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(EngineError, match="given up"):
        fetch_package(
            Wanted("@acme/agent", "1.2.3", DIGEST), registry.url, tmp_path / "p", lambda line: None, cancelled
        )
