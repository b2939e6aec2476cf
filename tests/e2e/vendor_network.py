"""Vendors' hosts in a network of their own: `vendor_network.py DIRECTORY [--server FILE NAME,NAME...] [COMMAND...]`, as
root, in new namespaces.

It puts a second namespace beside this one, with the vendors' addresses in it, and names that lead there into
/etc/hosts; this host is not touched. The server answers every request over TLS, with a certificate of a CA that
`SSL_CERT_FILE` of the command has, and writes what it got to DIRECTORY/requests, one JSON object a line. By default
it is the one of this file; FILE is started as `FILE DIRECTORY ADDRESS...`, and prints a line when it serves. Without a
command the network stays until standard input ends (vendors.py).
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAMES = ("api.anthropic.com", "api.github.com", "other.example.com")
# No address that the gateway refuses; nothing leaves the namespaces. Names that begin with `grpc.` have the last one.
OURS, THEIRS, OF_GRPC = "45.33.32.1", "45.33.32.156", "45.33.32.157"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def make_certificates(directory: Path, names: Sequence[str]) -> None:
    subject = ["-subj", "/CN=test vendor"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *curve, "-keyout", f"{directory}/ca.key", "-out", f"{directory}/ca.crt", *subject)
    openssl("req", *curve, "-keyout", f"{directory}/leaf.key", "-out", f"{directory}/leaf.csr", *subject)
    (directory / "san").write_text(f"subjectAltName={','.join(f'DNS:{name}' for name in names)}\n")
    signed = ["-CA", f"{directory}/ca.crt", "-CAkey", f"{directory}/ca.key", "-CAcreateserial"]
    openssl(
        "x509", "-req", "-in", f"{directory}/leaf.csr", *signed, "-extfile", f"{directory}/san", "-out",
        f"{directory}/leaf.crt",
    )  # fmt: skip


class Vendor(BaseHTTPRequestHandler):
    """Says how many bytes it got, and in a header the credential that it was sent, as careless servers do."""

    protocol_version = "HTTP/1.1"
    requests: Path

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        with self.requests.open("a") as file:
            got = {"host": self.headers["host"], "method": self.command, "path": self.path, "body": body.decode()}
            file.write(json.dumps({**got, "headers": self.headers.items()}) + "\n")
        text = f"{self.command} {self.path} {len(body)}\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.send_header("x-echo", self.headers.get("x-api-key") or self.headers.get("authorization") or "none")
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *words: object) -> None: ...


def serve(directory: Path, program: str | None) -> None:
    """In the vendors' own namespace, when its end of the cable is there: a line on standard input says so."""
    print("here", flush=True)
    sys.stdin.readline()
    for address in (THEIRS, OF_GRPC):
        ip("addr", "add", f"{address}/24", "dev", "vendor")
    for link in ("lo", "vendor"):
        ip("link", "set", link, "up")
    if program is not None:
        os.execv(sys.executable, [sys.executable, program, str(directory), THEIRS, OF_GRPC])
    Vendor.requests = directory / "requests"
    server = ThreadingHTTPServer((THEIRS, 443), Vendor)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "leaf.crt", directory / "leaf.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print("serving", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()  # until the other side has gone


def main() -> int:
    directory, command = Path(sys.argv[1]), sys.argv[2:]
    if command[:1] == ["--serve"]:
        serve(directory, *(command[1:] or [None]))
        return 0
    names, program = NAMES, []
    if command[:1] == ["--server"]:
        program, names, command = [command[1]], tuple(command[2].split(",")), command[3:]
    make_certificates(directory, names)
    hosts = directory / "hosts"
    lines = (f"{OF_GRPC if name.startswith('grpc.') else THEIRS} {name}\n" for name in names)
    hosts.write_text("127.0.0.1 localhost\n" + "".join(lines))
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    ip("link", "set", "lo", "up")
    argv = ["unshare", "-n", sys.executable, __file__, str(directory), "--serve", *program]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as vendor:
        assert vendor.stdin is not None and vendor.stdout is not None
        assert vendor.stdout.readline() == "here\n"
        ip("link", "add", "cable", "type", "veth", "peer", "name", "vendor")
        ip("link", "set", "vendor", "netns", str(vendor.pid))
        ip("addr", "add", f"{OURS}/24", "dev", "cable")
        ip("link", "set", "cable", "up")
        vendor.stdin.write("go\n")
        vendor.stdin.flush()
        assert vendor.stdout.readline() == "serving\n"
        if command:
            trusting = {**os.environ, "SSL_CERT_FILE": str(directory / "ca.crt")}
            code = subprocess.run(command, env=trusting, stdin=subprocess.DEVNULL).returncode
        else:
            print("serving", flush=True)
            sys.stdin.read()
            code = 0
        vendor.stdin.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
