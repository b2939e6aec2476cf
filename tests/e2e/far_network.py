"""A host on a network of its own: `far_network.py DIRECTORY COMMAND...`, as root, in new mount and network namespaces.

A second namespace beside this one has the servers of databases, git and ssh, at addresses that names in /etc/hosts lead
to; this host is not touched. Services of the host itself are on this namespace's loopback. What each of them saw is in
DIRECTORY/seen, one word a line.
"""

from __future__ import annotations

import http.server
import socketserver
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

# Endpoints that a test takes away and adds.
SSH = "  - {host: ssh.example.com, port: 22, protocol: tcp}\n"
NEW = "  - {host: new.example.com, port: 22, protocol: tcp}\n"
OURS, THEIRS, PRIVATE = "45.33.32.1", "45.33.32.156", "10.99.0.1"  # nothing leaves the namespaces
NAMES = {
    **dict.fromkeys(("db.example.com", "git.example.com", "ssh.example.com", "new.example.com"), THEIRS),
    "inner.example.com": PRIVATE,
}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class Seen(socketserver.StreamRequestHandler):
    """Writes down that somebody came. A reset is the client's business."""

    log: ClassVar[Path]
    name: ClassVar[str] = ""

    def setup(self) -> None:
        super().setup()
        with self.log.open("a") as file:
            file.write(f"{self.name}\n")

    def exactly(self, count: int) -> bytes:
        data: bytes = self.rfile.read(count)
        return data


class Database(Seen):
    """PostgreSQL's protocol, as far as `select 42`: the client asks for TLS first, which is no TLS yet."""

    name = "database"

    def handle(self) -> None:
        assert self.exactly(8) == bytes.fromhex("00000008 04d2162f")  # SSLRequest
        self.wfile.write(b"N")
        self.exactly(int.from_bytes(self.exactly(4), "big") - 4)
        self.wfile.write(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")  # who you are does not matter; ready
        assert self.exactly(1) == b"Q"
        self.exactly(int.from_bytes(self.exactly(4), "big") - 4)
        self.wfile.write(b"D\0\0\0\x0c\0\x01\0\0\0\x0242")
        assert self.rfile.read() == b"X\0\0\0\x04", "the client's end comes through, and ours after it"
        self.wfile.write(b"bye")


class Ssh(Seen):
    """Says who it is before anybody asks, and echoes."""

    name = "ssh"

    def handle(self) -> None:
        self.wfile.write(b"SSH-2.0-far_away\r\n")
        while data := self.request.recv(65536):
            self.wfile.write(data)


class Cache(Seen):
    """Redis, as far as PING."""

    name = "cache"

    def handle(self) -> None:
        while self.rfile.readline() == b"PING\r\n":
            self.wfile.write(b"+PONG\r\n")


class Ollama(http.server.BaseHTTPRequestHandler):
    """Answers to localhost only, as the real one does."""

    def do_GET(self) -> None:
        own = self.headers["host"] == "localhost:11434"
        body = f"{self.path} for {self.headers['host']}\n".encode()
        self.send_response(200 if own else 403)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None: ...


class Undeclared(Seen):
    """What no endpoint speaks of."""

    name = "undeclared"


def listen(address: str, port: int, handler: type[socketserver.BaseRequestHandler]) -> None:
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer.daemon_threads = True
    server = socketserver.ThreadingTCPServer((address, port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def serve(directory: Path) -> None:
    """In the far namespace, when its end of the cable is there: a line on standard input says so."""
    print("here", flush=True)
    sys.stdin.readline()
    ip("addr", "add", f"{THEIRS}/24", "dev", "far")
    ip("addr", "add", f"{PRIVATE}/24", "dev", "far")
    ip("link", "set", "far", "up")
    listen(THEIRS, 5432, Database)
    listen(THEIRS, 22, Ssh)
    listen(PRIVATE, 22, Undeclared)
    argv = [
        "git",
        "daemon",
        "--reuseaddr",
        f"--listen={THEIRS}",
        f"--base-path={directory}",
        "--export-all",
        "--strict-paths",
    ]
    with subprocess.Popen([*argv, str(directory / "repo.git")], stderr=subprocess.DEVNULL) as daemon:
        print("serving", flush=True)
        sys.stdin.read()  # until the other side has gone
        daemon.terminate()


def main() -> int:
    directory, command = Path(sys.argv[1]), sys.argv[2:]
    Seen.log = directory / "seen"
    if command == ["--serve"]:
        serve(directory)
        return 0
    hosts = directory / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in NAMES.items()))
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    ip("link", "set", "lo", "up")
    for port, handler in ((11434, Ollama), (6379, Cache), (9999, Undeclared)):
        listen("127.0.0.1", port, handler)
    argv = ["unshare", "-n", sys.executable, __file__, str(directory), "--serve"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as far:
        assert far.stdin is not None and far.stdout is not None
        assert far.stdout.readline() == "here\n"
        ip("link", "add", "cable", "type", "veth", "peer", "name", "far")
        ip("link", "set", "far", "netns", str(far.pid))
        ip("addr", "add", f"{OURS}/24", "dev", "cable")
        ip("addr", "add", "10.99.0.2/24", "dev", "cable")
        ip("link", "set", "cable", "up")
        far.stdin.write("go\n")
        far.stdin.flush()
        assert far.stdout.readline() == "serving\n"
        code = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
        far.stdin.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
