"""Ports of the host that lead to servers in the guest, as a user's programs find them."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter

import pytest
from world import World, wait_until

PORTS = {"first": 8101, "second": 8102, "inside": 8103, "six": 8104}
AT_ONCE = 200
ANSWER_S = 60.0  # for the slowest; one that is never answered fails
# Says hello before it is asked on one port, and answers on another; the third is for this machine's own loopback.
SERVER = """
import socket, socketserver, threading
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True; request_queue_size = 256; daemon_threads = True
class Six(Server):
    address_family = socket.AF_INET6
class First(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"hello\\n"); self.request.recv(1)
class Second(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"len %d\\n" % len(self.rfile.read()))
servers = [
    Server(("0.0.0.0", 8101), First), Server(("0.0.0.0", 8102), Second), Server(("127.0.0.1", 8103), Second),
    Six(("::1", 8104), Second),
]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
"""


def exchange(address: str, port: int, said: bytes) -> str:
    try:
        with socket.create_connection((address, port), ANSWER_S) as connection:
            if said:
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
            answer = connection.makefile("rb").readline()
    except OSError as error:
        return type(error).__name__
    return answer.decode().strip() or "closed"


def many(address: str, port: int, said: bytes) -> Counter[str]:
    answers: Counter[str] = Counter()
    lock = threading.Lock()

    def one() -> None:
        answer = exchange(address, port, said)
        with lock:
            answers[answer] += 1

    threads = [threading.Thread(target=one) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_every_connection_is_answered(world: World) -> None:
    """Field-machine 05."""
    text = f"name: ports\nports: {list(PORTS.values())}\nmounts: [.:/workspace]\n"
    project = world.project(text, {"server.py": SERVER})
    world.up(project)
    hosts = {port["guest"]: port["host"] for port in world.listed(project)[0]["ports"]}
    host = {name: hosts[port] for name, port in PORTS.items()}
    assert exchange("127.0.0.1", host["first"], b"") in ("closed", "ConnectionResetError"), "nobody listens yet"
    world.run(project, "setsid python3 server.py < /dev/null > /dev/null 2>&1 &").ok()
    wait_until(lambda: exchange("127.0.0.1", host["six"], b"x"), lambda said: said == "len 1", "no answer")
    began = time.monotonic()
    for address in ("127.0.0.1", "::1"):
        assert many(address, host["first"], b"") == {"hello": AT_ONCE}
        assert many(address, host["second"], b"x" * 10) == {"len 10": AT_ONCE}
        assert exchange(address, host["inside"], b"xyz") == "len 3"
        assert exchange(address, host["six"], b"xyz") == "len 3"
    print(f"{4 * AT_ONCE} connections took {time.monotonic() - began:.1f} s")
    # Changed while it runs.
    (project / "Sandboxfile.yaml").write_text('version: "1"\n' + text.replace("8103", "8105"))
    world.up(project)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", host["inside"]), 5)
    assert exchange("::1", host["second"], b"abc") == "len 3"
