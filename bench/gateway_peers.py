"""The processes around a measurement of the gateway: a server behind TLS, and a gateway inside what a supervisor loads.

python bench/gateway_peers.py server CERTIFICATE          says its port, serves HTTP/1.1 until its input ends
python bench/gateway_peers.py gateway DIRECTORY PORT MODE  says what it is as JSON; MODE is splice or intercept
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

HOST = "bench.example.com"
BLOCK = bytes(1 << 20)
NODE_SERVER = """
const http2 = require("http2"), fs = require("fs");
const pem = fs.readFileSync(process.argv[1]), block = Buffer.alloc(1 << 20);
const server = http2.createSecureServer({key: pem, cert: pem, allowHTTP1: true}, (request, answer) => {
  const size = Number(request.url.split("/bytes/")[1] || 2);
  if (request.method == "PUT") {
    request.on("data", () => {}).on("end", () => answer.end("ok"));
    return;
  }
  let left = size;
  answer.writeHead(200, {"content-length": size});
  const more = () => {
    while (left > 0) {
      const piece = left < block.length ? block.subarray(0, left) : block;
      left -= piece.length;
      if (!answer.write(piece)) return answer.once("drain", more);
    }
    answer.end();
  };
  more();
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
"""


@dataclass
class Peer:
    """A process that has said that it is ready."""

    process: subprocess.Popen[str]
    said: Any

    @property
    def pss_mb(self) -> float:
        """Its proportional share of memory."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return int(text.split("\nPss:")[1].split()[0]) / 1024

    def in_use_mb(self) -> float:
        """What malloc has given out in a gateway's process."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(json.loads(self.process.stdout.readline()))

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def peer(argv: list[str], env: dict[str, str] | None = None) -> Iterator[Peer]:
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdin is not None and process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{argv[:3]} did not start")
        yield Peer(process, json.loads(line))
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def make_certificate(directory: Path, names: tuple[str, ...] = (HOST,)) -> Path:
    """One file with the key and a certificate for `names` that is its own authority."""
    key, certificate, both = (directory / name for name in ("key.pem", "certificate.pem", "both.pem"))
    alternative = "subjectAltName=critical," + ",".join(f"DNS:{name}" for name in names)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", "/CN=the server", "-days", "2", "-addext",
         alternative, "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    both.write_text(key.read_text() + certificate.read_text())
    return both


def start_server(certificate: Path, *, node: bool = False) -> contextlib.AbstractContextManager[Peer]:
    if node:
        return peer(["node", "-e", NODE_SERVER, str(certificate)])
    return peer([sys.executable, __file__, "server", str(certificate)])


def has_node() -> bool:
    return shutil.which("node") is not None and shutil.which("curl") is not None


def start_gateway_process(
    directory: Path, port: int, mode: str, certificate: Path
) -> contextlib.AbstractContextManager[Peer]:
    """`said` holds the socket, the authority's certificate (PEM, or none) and which heavy modules are loaded."""
    directory.mkdir(exist_ok=True)
    env = {**os.environ, "SSL_CERT_FILE": str(certificate), "SSL_CERT_DIR": str(directory / "none")}
    return peer([sys.executable, __file__, "gateway", str(directory), str(port), mode], env)


# In the processes


def serve(certificate: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["http/1.1"])
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        threading.Thread(target=_accept, args=(listener, context), daemon=True).start()
        print(listener.getsockname()[1], flush=True)
        sys.stdin.read()


def _accept(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_converse, args=(connection, context), daemon=True).start()


def _converse(connection: socket.socket, context: ssl.SSLContext) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
        stream = tls.makefile("rb", 1 << 16)
        while (line := stream.readline()) and _answer(tls, stream, line.decode()):
            pass


def _answer(tls: ssl.SSLSocket, stream: IO[bytes], line: str) -> bool:
    fields = {}
    while (field := stream.readline().decode().strip()) != "":
        name, _, value = field.partition(":")
        fields[name.lower()] = value.strip()
    left = int(fields.get("content-length", 0))
    while left > 0:
        data = stream.read1(min(left, len(BLOCK)))  # type: ignore[attr-defined]
        if not data:
            return False
        left -= len(data)
    size = int(line.split("/bytes/")[1].split()[0]) if "/bytes/" in line else 2
    tls.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode() + BLOCK[: min(size, 2)])
    for at in range(2, size, len(BLOCK)):
        tls.sendall(BLOCK[: min(len(BLOCK), size - at)])
    return True


def run_gateway(directory: str, port: str, mode: str) -> None:
    import engine.supervisor.__main__  # noqa: F401 - what the process of a sandbox has loaded

    asyncio.run(_run_gateway(Path(directory), int(port), mode))


async def _run_gateway(directory: Path, port: int, mode: str) -> None:
    from engine.gateway.journal import Journal
    from engine.gateway.policy import Policy
    from engine.gateway.rules import Injection, Rule
    from engine.gateway.server import start_gateway
    from engine.gateway.upstream import Streams

    async def resolve(host: str, guest_port: int) -> list[str]:
        return ["203.0.113.1"]  # a public address for the gateway's check; `connect` goes to the server here

    async def connect(address: str, guest_port: int) -> Streams:
        return await asyncio.open_connection("127.0.0.1", port, limit=128 << 10)

    authority = None
    rule = Rule(HOST)
    if mode == "intercept":
        from engine.gateway.authority import Authority

        authority = Authority.create("bench")
        rule = Rule(HOST, injections=(Injection("key", "authorization", "bearer"),))
    with Journal(directory / "journal.jsonl") as journal:
        async with start_gateway(
            Policy([rule]),
            directory,
            journal,
            resolver=resolve,
            connect=connect,
            authority=authority,
            secrets=lambda name: "sk-of-the-bench-0123456789",
        ) as gateway:
            heavy = sorted({"cryptography", "h2", "hpack", "keyring", "pydantic", "networkx"} & set(sys.modules))
            certificate = authority.certificate if authority else ""
            print(json.dumps({"socket": str(gateway.sockets[443]), "ca": certificate, "heavy": heavy}), flush=True)
            while await asyncio.to_thread(sys.stdin.readline):  # each line asks
                print(json.dumps(in_use_mb()), flush=True)


_NAMES = [
    "arena",
    "ordblks",
    "smblks",
    "hblks",
    "hblkhd",
    "usmblks",
    "fsmblks",
    "uordblks",
    "fordblks",
    "keepcost",
]  # of mallinfo2


class _Mallinfo(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_size_t) for name in _NAMES)


def in_use_mb() -> float:
    """What malloc has given out in this process; -1 where the C library does not say (glibc before 2.33, others)."""
    gc.collect()
    with contextlib.suppress(AttributeError):
        library = ctypes.CDLL(None)
        library.mallinfo2.restype = _Mallinfo
        found = library.mallinfo2()
        return float(found.uordblks + found.hblkhd) / (1 << 20)
    return -1.0


if __name__ == "__main__":
    {"server": serve, "gateway": run_gateway}[sys.argv[1]](*sys.argv[2:])
