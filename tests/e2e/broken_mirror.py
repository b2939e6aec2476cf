"""A Debian mirror on loopback that passes on what the host's real mirror has, faultily while it is told to."""

from __future__ import annotations

import contextlib
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from engine.resolve.debian import DebianMirrors

Fault = Literal["none", "cut", "flipped", "unavailable"]
LARGE = 5_000_000  # bytes: apt has already got many packages when it comes to one that is faulty
FETCH_S = 60


@dataclass
class BrokenMirror:
    """Every fault is a mirror of its own, at `address`/FAULT/; `struck` are the (fault, file) that it happened to."""

    real: DebianMirrors
    address: str = ""
    struck: set[tuple[str, str]] = field(default_factory=set)
    fetched: dict[str, bytes] = field(default_factory=dict)

    def variable(self, fault: Fault) -> str:
        """The value of SANDBOX_DEBIAN_MIRROR that leads to it."""
        names = ["archive", "security"] if self.real.security else ["archive"]
        return " ".join(f"{self.address}/{fault}/{name}" for name in names)

    def fetch(self, which: str, rest: str) -> bytes:
        """From the real mirror, once. Raises HTTPError."""
        url = f"{self.real.security if which == 'security' else self.real.archive}/{rest}"
        if url not in self.fetched:
            with urllib.request.urlopen(url, timeout=FETCH_S) as answer:
                self.fetched[url] = answer.read()
        return self.fetched[url]


@contextlib.contextmanager
def start_broken_mirror(real: DebianMirrors) -> Iterator[BrokenMirror]:
    """The mirror for the length of the block. It remembers what it has fetched."""
    mirror = BrokenMirror(real)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _, fault, which, rest = self.path.split("/", 3)
            try:
                body = mirror.fetch(which, rest)
            except urllib.error.HTTPError as error:
                self.send_error(error.code)
                return
            half = len(body) // 2
            if fault == "none" or len(body) < LARGE or not rest.endswith(".deb"):
                self._answer(body, len(body))
                return
            mirror.struck.add((fault, rest.rpartition("/")[2]))
            if fault == "unavailable":
                self.send_error(503)
            elif fault == "cut":
                self._answer(body[:half], len(body))
                self.close_connection = True
            else:
                self._answer(body[:half] + bytes([body[half] ^ 1]) + body[half + 1 :], len(body))

        def _answer(self, body: bytes, length: int) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # apt hangs up when it is killed
    mirror.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield mirror
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
