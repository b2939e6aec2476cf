"""A small internet around one sandbox, in which nothing goes unheard.

`python -m engine.attacks.stage DIRECTORY`, in new namespaces.

Beside this network namespace it puts a second one, where all names of the file lead, and where every other address
leads, too: public resolvers, metadata, whatever. The servers keep what they get in DIRECTORY/requests. Whatever else
comes over the cable, or over loopback here, is a frame that nobody should have sent: DIRECTORY/heard has them.
It says "ready" when all of that is there, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from engine.attacks import careless_server

# The last ones are those that no endpoint of a proper file names.
NAMES = (
    *("api.anthropic.com", "api.github.com", "api.openai.com"),
    *("other.example.com", "taken.example.com", "a.wild.example.com"),
    *("evil.example.net", "dns.google"),
)
HOST, VENDOR = "45.33.32.1", "45.33.32.156"  # no address that the gateway refuses; nothing leaves the namespaces
CANARY = 7777  # listens on both sides, for TCP and UDP
ELSEWHERE = ("1.1.1.1", "8.8.8.8", "169.254.169.254", "203.0.113.9")
NEIGHBOURS = (0x806,)
DISCOVERY = range(130, 144)  # of IPv6: routers, neighbours, multicast listeners, which the kernel sends by itself


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def make_certificates(directory: Path) -> None:
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=directory)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test vendors")
    openssl("req", *curve, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=vendor")
    (directory / "san").write_text(f"subjectAltName={','.join(f'DNS:{name}' for name in NAMES)}\n")
    openssl(
        *("x509", "-req", "-in", "leaf.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
        *("-extfile", "san", "-out", "leaf.crt"),
    )


class Canary:
    """Listens, and hears every frame of a device that is not between the gateway and the servers."""

    def __init__(self, device: str, log: Path, control: bytes) -> None:
        self._device, self._log, self._control = device, log, control
        self.is_hearing = threading.Event()
        self._packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._packets.bind((device, 0))
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        while True:
            try:
                frame = self._packets.recv(65535)
            except OSError as error:  # the cable is gone: expected at the end, after the log has been read
                self._write(f"deaf: {error}")
                return
            if self._control in frame:  # our own, also when it comes twice, or back in an error of ICMP
                self.is_hearing.set()
            elif not is_expected(frame):
                self._write(frame[:120].hex())

    def _write(self, what: str) -> None:
        with self._log.open("a") as file:
            file.write(json.dumps({"device": self._device, "heard": what}) + "\n")


def is_expected(frame: bytes) -> bool:
    """Of a neighbour's protocol, or of a connection of the gateway to a server that the file allows."""
    kind = struct.unpack("!H", frame[12:14])[0]
    if kind in NEIGHBOURS:
        return True
    if kind == 0x86DD:
        at = 54 + (8 if frame[20] == 0 else 0)  # behind a hop-by-hop header
        return 58 in (frame[20], frame[54]) and frame[at] in DISCOVERY
    if kind != 0x800 or frame[23] != 6:
        return False
    ends = {socket.inet_ntoa(frame[26:30]), socket.inet_ntoa(frame[30:34])}
    start = 14 + (frame[14] & 15) * 4
    return ends == {HOST, VENDOR} and bool(set(struct.unpack("!HH", frame[start : start + 4])) & {80, 443})


def listen() -> list[socket.socket]:
    """Somebody who answers, so that a packet that gets through would be seen on the guest's side, too."""
    tcp = socket.create_server(("", CANARY))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("", CANARY))
    return [tcp, udp]


async def serve(directory: Path) -> None:
    def keep(name: str, head: bytes, body: bytes) -> None:
        with (directory / "requests").open("a") as file:
            file.write(json.dumps([name, head.decode("latin-1"), body.decode("latin-1")]) + "\n")

    def remember(connection: Any, name: str | None, _: ssl.SSLContext) -> None:
        connection.asked_for = name or ""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "leaf.crt", directory / "leaf.key")
    context.sni_callback = remember
    context.set_alpn_protocols(["h2", "http/1.1"])
    answer = partial(careless_server.serve, keep=keep)
    async with (
        await asyncio.start_server(answer, VENDOR, 80),
        await asyncio.start_server(answer, VENDOR, 443, ssl=context),
    ):
        print("serving", flush=True)
        await asyncio.to_thread(sys.stdin.read)  # until the other side has gone


def be_elsewhere(directory: Path) -> None:
    """The second namespace, when its end of the cable is there: a line on standard input says so."""
    print("here", flush=True)
    sys.stdin.readline()
    ip("addr", "add", f"{VENDOR}/24", "dev", "vendor")
    ip("link", "set", "lo", "up")
    ip("link", "set", "vendor", "up")
    for address in ELSEWHERE:
        ip("addr", "add", f"{address}/32", "dev", "vendor")
    ip("route", "add", "default", "via", HOST)
    kept = listen()
    asyncio.run(serve(directory))
    assert kept


def hear_ourselves(canaries: list[Canary], control: bytes) -> None:
    """The control: what leaves, and what is sent to loopback, is heard."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(control, ("1.1.1.1", CANARY))
        udp.sendto(control, ("127.0.0.1", CANARY))
    for canary in canaries:
        canary.is_hearing.wait()  # whoever started this ends it


def main() -> None:
    directory = Path(sys.argv[1])
    if sys.argv[2:] == ["--serve"]:
        be_elsewhere(directory)
        return
    make_certificates(directory)
    inward = json.loads((directory / "inward.json").read_text())
    lines = [f"{VENDOR} {name}" for name in NAMES] + [f"{address} {name}" for name, address in inward.items()]
    (directory / "hosts").write_text("127.0.0.1 localhost\n" + "\n".join(lines) + "\n")
    subprocess.run(["mount", "--bind", str(directory / "hosts"), "/etc/hosts"], check=True)
    ip("link", "set", "lo", "up")
    argv = ["unshare", "-n", sys.executable, "-m", "engine.attacks.stage", str(directory), "--serve"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as vendor:
        assert vendor.stdin is not None and vendor.stdout is not None
        assert vendor.stdout.readline() == "here\n"
        ip("link", "add", "cable", "type", "veth", "peer", "name", "vendor")
        ip("link", "set", "vendor", "netns", str(vendor.pid))
        ip("addr", "add", f"{HOST}/24", "dev", "cable")
        ip("link", "set", "cable", "up")
        ip("route", "add", "default", "via", VENDOR)
        vendor.stdin.write("go\n")
        vendor.stdin.flush()
        assert vendor.stdout.readline() == "serving\n"
        log = directory / "heard"
        log.touch()
        control = os.urandom(16)  # which nobody else can send
        kept = [*listen()]
        hear_ourselves([Canary("cable", log, control), Canary("lo", log, control)], control)
        print("ready", flush=True)
        sys.stdin.read()
        assert kept
        vendor.stdin.close()


if __name__ == "__main__":
    main()
