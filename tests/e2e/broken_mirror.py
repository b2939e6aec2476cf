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

from engine.registries import DebianMirrors

Fault = Literal["cut", "flipped", "unavailable"]
LARGE = 500_000  # bytes: apt has already got many packages when it comes to one that is faulty
FETCH_S = 60


@dataclass
class BrokenMirror:
    """`fault` is what happens to large packages from now on; `struck` are the paths it has happened to."""

    real: DebianMirrors
    fault: Fault | None = None
    struck: list[str] = field(default_factory=list)
    variable: str = ""  # the value of SANDBOX_DEBIAN_MIRROR
    fetched: dict[str, bytes] = field(default_factory=dict)

    def fetch(self, path: str) -> bytes:
        """From the real mirror, once. Raises HTTPError."""
        if path not in self.fetched:
            _, which, rest = path.split("/", 2)
            base = self.real.security if which == "security" else self.real.archive
            with urllib.request.urlopen(f"{base}/{rest}", timeout=FETCH_S) as answer:
                self.fetched[path] = answer.read()
        return self.fetched[path]


@contextlib.contextmanager
def start_broken_mirror(real: DebianMirrors) -> Iterator[BrokenMirror]:
    mirror = BrokenMirror(real)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            try:
                body = mirror.fetch(self.path)
            except urllib.error.HTTPError as error:
                self.send_error(error.code)
                return
            fault = mirror.fault if self.path.endswith(".deb") and len(body) > LARGE else None
            if fault is not None:
                mirror.struck.append(self.path)
            if fault == "unavailable":
                self.send_error(503)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            half = len(body) // 2
            if fault == "cut":
                self.wfile.write(body[:half])
                self.close_connection = True
            elif fault == "flipped":
                self.wfile.write(body[:half] + bytes([body[half] ^ 1]) + body[half + 1 :])
            else:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # apt hangs up when it is killed
    address = f"http://127.0.0.1:{server.server_port}"
    mirror.variable = " ".join(
        f"{address}/{name}" for name, url in (("archive", real.archive), ("security", real.security)) if url
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield mirror
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
