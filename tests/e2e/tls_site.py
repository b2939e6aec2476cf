"""Runs in the guest: a TLS server on port 443 for all kinds of clients. Argument: the PEM file of its key and chain.

/hello, a git repository, an index for pip, a registry for npm and one for Docker with the image `tiny`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import socket
import ssl
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST = "secure.test"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
PAGES: dict[str, tuple[str, bytes]] = {}  # path -> type, body


def main() -> None:
    add("/hello", b"hello\n")
    add_git()
    add_wheel()
    add("/tiny", json.dumps({"name": "tiny", "dist-tags": {"latest": "1.0.0"}, "versions": npm_versions()}).encode())
    add_image()
    Server(("0.0.0.0", 443), Pages).serve_forever()


def add(path: str, body: bytes, kind: str = "application/octet-stream") -> None:
    PAGES[path] = kind, body


def add_git() -> None:
    with tempfile.TemporaryDirectory() as directory:
        script = (
            "git init -q w && cd w && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m first"
            " && git clone -q --bare . ../repo.git && git -C ../repo.git update-server-info"
        )
        subprocess.run(["sh", "-c", script], cwd=directory, check=True)
        for file in Path(directory, "repo.git").rglob("*"):
            if file.is_file():
                add(f"/{file.relative_to(directory)}", file.read_bytes(), "text/plain")


def add_wheel() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as wheel:
        wheel.writestr("tiny.py", "")
        about = "tiny-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    add("/tiny-1.0-py3-none-any.whl", made.getvalue())
    add("/simple/tiny/", b'<a href="/tiny-1.0-py3-none-any.whl">tiny-1.0-py3-none-any.whl</a>', "text/html")


def npm_versions() -> dict[str, object]:
    return {"1.0.0": {"name": "tiny", "version": "1.0.0", "dist": {"tarball": f"https://{HOST}/tiny.tgz"}}}


def add_image() -> None:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("made-here"))
    packed = gzip.compress(layer.getvalue())
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer.getvalue())]},
        }
    ).encode()
    kinds = ("application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip")
    parts = [
        {"mediaType": kind, "size": len(blob), "digest": digest(blob)}
        for kind, blob in zip(kinds, (config, packed), strict=True)
    ]
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": parts[0], "layers": parts[1:]}).encode()
    add("/v2/", b"{}", "application/json")
    for name in ("latest", digest(manifest)):
        add(f"/v2/tiny/manifests/{name}", manifest, MANIFEST)
    for blob in (config, packed):
        add(f"/v2/tiny/blobs/{digest(blob)}", blob)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1])  # each time: the test changes it
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that does not trust us


class Pages(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        kind, body = PAGES.get(self.path.partition("?")[0], ("", b""))
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind or "text/plain")
        self.send_header("Content-Length", str(len(body)))
        if kind == MANIFEST:
            self.send_header("Docker-Content-Digest", digest(body))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *words: object) -> None:
        pass


if __name__ == "__main__":
    main()
