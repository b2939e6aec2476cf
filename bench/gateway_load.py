"""The gateway with TLS on both sides, spliced and intercepted, beside the same server without it, in the same run.

    python bench/gateway_load.py                 all of it, some minutes
    python bench/gateway_load.py --only latency memory
    python bench/gateway_load.py --gigabytes 0.1 --connections 1000

No guest: clients speak to the gateway's socket. Columns: direct, spliced, intercepted; medians, by turns. Nothing here
asserts anything about time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import ssl
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway_peers import HOST, Peer, has_node, make_certificate, start_gateway_process, start_server
from series import load_average, machine_facts

LIMIT_S = 600.0
CHUNK = 1 << 20


@dataclass
class Road:
    """A way to the server: straight, or through a gateway."""

    name: str
    family: int
    address: tuple[str, int] | str
    trusted: str  # PEM
    gateway: Peer | None = None

    def connect(self) -> ssl.SSLSocket:
        below = socket.socket(self.family)
        below.settimeout(LIMIT_S)
        below.connect(self.address)
        return self._context().wrap_socket(below, server_hostname=HOST)

    def _context(self) -> ssl.SSLContext:
        if not hasattr(self, "_made"):
            self._made = ssl.create_default_context(cadata=self.trusted)
            self._made.set_alpn_protocols(["http/1.1"])
        return self._made

    def curl(self, directory: Path) -> list[str]:
        file = directory / f"{self.name}.pem"
        file.write_text(self.trusted)
        way = ["--unix-socket", str(self.address)]
        if not isinstance(self.address, str):
            way = ["--connect-to", f"{HOST}:443:{self.address[0]}:{self.address[1]}"]
        return ["curl", "-sS", "--fail", "--http2", "--max-time", str(int(LIMIT_S)), "--cacert", str(file), *way]


@contextmanager
def roads(directory: Path, *, node: bool = False) -> Iterator[list[Road]]:
    certificate = make_certificate(directory)
    text = "-----BEGIN CERTIFICATE-----" + certificate.read_text().partition("-----BEGIN CERTIFICATE-----")[2]
    with contextlib.ExitStack() as stack:
        port = int(stack.enter_context(start_server(certificate, node=node)).said)
        found = [Road("direct", socket.AF_INET, ("127.0.0.1", port), text)]
        for mode in ("splice", "intercept"):
            gateway = stack.enter_context(start_gateway_process(directory / mode, port, mode, certificate))
            trusted = gateway.said["ca"] or text
            found.append(Road(mode, socket.AF_UNIX, gateway.said["socket"], trusted, gateway))
        yield found


def ask(tls: ssl.SSLSocket, path: str = "/small", size: int = 2) -> None:
    """One request on a connection that is kept. Raises RuntimeError for anything but a whole answer."""
    tls.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    buffer = bytearray(CHUNK)
    head = b""
    while b"\r\n\r\n" not in head:
        if not (data := tls.recv(65536)):
            raise RuntimeError("no answer")
        head += data
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(head.decode(errors="replace"))
    got = len(head.partition(b"\r\n\r\n")[2])
    while got < size:
        if not (count := tls.recv_into(buffer)):
            raise RuntimeError(f"{got} bytes of {size}")
        got += count


def put(tls: ssl.SSLSocket, size: int) -> None:
    tls.sendall(f"PUT /sink HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\n\r\n".encode())
    block = bytes(CHUNK)
    for at in range(0, size, CHUNK):
        tls.sendall(block[: min(CHUNK, size - at)])
    if not tls.recv(65536).startswith(b"HTTP/1.1 200 "):
        raise RuntimeError("the upload was not taken")


def seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def row(title: str, unit: str, values: list[float | str]) -> None:
    cells = (f"{value:.4g}" if isinstance(value, float) else value for value in values)
    print("  ".join([f"{title} [{unit}]".ljust(44), *(cell.rjust(10) for cell in cells)]), flush=True)


def measure_latency(options: argparse.Namespace, directory: Path) -> None:
    """A small request: on a new connection, and on a kept one."""

    def new(road: Road) -> None:
        with road.connect() as tls:
            ask(tls)

    with roads(directory) as ways, contextlib.ExitStack() as stack:
        kept = [stack.enter_context(road.connect()) for road in ways]
        taken: dict[tuple[str, str], list[float]] = {}
        for turn in range(options.requests + 3):
            for road, tls in zip(ways, kept, strict=True):
                found = {"new": seconds(lambda road=road: new(road)), "kept": seconds(lambda tls=tls: ask(tls))}  # type: ignore[misc]
                for kind, value in found.items():
                    if turn >= 3:
                        taken.setdefault((kind, road.name), []).append(value * 1000)
        for kind in ("new", "kept"):
            medians = [statistics.median(taken[kind, road.name]) for road in ways]
            row(f"small request, {kind} connection", "ms", list(medians))
            row("... added", "ms", ["", *(median - medians[0] for median in medians[1:])])


def measure_throughput(options: argparse.Namespace, directory: Path) -> None:
    """Large bodies, HTTP/1.1 by Python's client and server, HTTP/2 by curl's and Node's."""
    size = int(options.megabytes * (1 << 20))

    def down(road: Road) -> None:
        with road.connect() as tls:
            ask(tls, f"/bytes/{size}", size)

    def up(road: Road) -> None:
        with road.connect() as tls:
            put(tls, size)

    def down_h2(road: Road) -> None:
        url = f"https://{HOST}/bytes/{size}"
        subprocess.run([*road.curl(directory), "-o", os.devnull, url], check=True)

    with roads(directory) as ways:
        compare("down, HTTP/1.1", options, ways, down)
        compare("up, HTTP/1.1", options, ways, up)
    if not has_node():
        print("HTTP/2 is left out: it needs node and curl")
        return
    with roads(directory, node=True) as ways:
        compare("down, HTTP/2", options, ways, down_h2)


def compare(title: str, options: argparse.Namespace, ways: list[Road], act: Callable[[Road], None]) -> None:
    taken: dict[str, list[float]] = {road.name: [] for road in ways}
    before = {road.name: road.gateway.cpu_s for road in ways if road.gateway}
    for _ in range(options.runs):
        for road in ways:
            taken[road.name].append(seconds(lambda road=road: act(road)))  # type: ignore[misc]
    medians = [statistics.median(taken[road.name]) for road in ways]
    row(title, "MB/s", [options.megabytes / median for median in medians])
    row("... of direct", "ratio", ["", *(medians[0] / median for median in medians[1:])])
    moved = options.runs * options.megabytes / 1024
    cpu = [(road.gateway.cpu_s - before[road.name]) / moved if road.gateway else "" for road in ways]
    row("... processor time of the gateway", "s/GB", cpu)


def measure_memory(options: argparse.Namespace, directory: Path) -> None:
    """What a supervisor's process takes, and that large bodies do not add to it."""
    size = int(options.gigabytes * (1 << 30))
    with roads(directory, node=has_node()) as ways:
        gateways = [(road, road.gateway) for road in ways if road.gateway is not None]
        row("PSS at the start", "MB", ["", *(gateway.pss_mb for _, gateway in gateways)])
        row("loaded of the heavy modules", "", ["", *(",".join(g.said["heavy"]) or "none" for _, g in gateways)])
        for road, _ in gateways:
            with road.connect() as tls:
                ask(tls)
        row("... after one request", "MB", ["", *(gateway.pss_mb for _, gateway in gateways)])

        def move(road: Road, kind: str) -> None:
            if kind.endswith("HTTP/2"):
                argv = road.curl(directory)
                if kind.startswith("down"):
                    subprocess.run([*argv, "-o", os.devnull, f"https://{HOST}/bytes/{size}"], check=True)
                else:
                    feed = subprocess.Popen(["head", "-c", str(size), "/dev/zero"], stdout=subprocess.PIPE)
                    subprocess.run(
                        [*argv, "-o", os.devnull, "-T", "-", f"https://{HOST}/sink"], check=True, stdin=feed.stdout
                    )
                    feed.wait()
                return
            with road.connect() as tls:
                if kind.startswith("down"):
                    ask(tls, f"/bytes/{size}", size)
                else:
                    put(tls, size)

        for kind in ("down, HTTP/1.1", "up, HTTP/1.1", *(("down, HTTP/2", "up, HTTP/2") if has_node() else ())):
            peaks = [peak_while(gateway, lambda road=road: move(road, kind)) for road, gateway in gateways]  # type: ignore[misc]  # noqa: B023
            row(f"peak PSS, {options.gigabytes:g} GB {kind}", "MB", ["", *peaks])


def peak_while(gateway: Peer, act: Callable[[], None]) -> float:
    peak, over = gateway.pss_mb, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.2):
            peak = max(peak, gateway.pss_mb)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        act()
    finally:
        over.set()
        watcher.join()
    return max(peak, gateway.pss_mb)


def measure_crowd(options: argparse.Namespace, directory: Path) -> None:
    """Many at once; then very many, a third of them aborted: descriptors and memory afterwards."""

    def five(road: Road) -> int:
        try:
            with road.connect() as tls:
                for _ in range(5):
                    ask(tls)
            return 0
        except (OSError, RuntimeError):
            return 1

    with roads(directory) as ways:
        taken, errors = {road.name: [0.0] * 0 for road in ways}, {road.name: 0 for road in ways}
        for _ in range(options.runs):
            for road in ways:
                with ThreadPoolExecutor(200) as pool:
                    began = time.perf_counter()
                    errors[road.name] += sum(pool.map(five, [road] * 200))
                    taken[road.name].append(time.perf_counter() - began)
        row("200 connections at once, 5 requests each", "s", [statistics.median(taken[road.name]) for road in ways])
        row("... errors in all runs", "", [str(errors[road.name]) for road in ways])
        for road in ways[1:]:
            assert road.gateway is not None
            churn(options.connections, road, road.gateway)


def churn(count: int, road: Road, gateway: Peer) -> None:
    def one(number: int) -> int:
        try:
            if number % 3 == 0:
                below = socket.socket(road.family)
                below.connect(road.address)
                below.sendall(b"\x16\x03\x01")
                below.close()
                return 0
            with road.connect() as tls:
                ask(tls)
            return 0
        except (OSError, RuntimeError):
            return 1

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{gateway.process.pid}/fd"))  # noqa: PTH208

    marks, failed = [], 0
    with ThreadPoolExecutor(20) as pool:
        for part in range(5):
            failed += sum(pool.map(one, range(part * count // 5, (part + 1) * count // 5)))
            time.sleep(0.5)
            marks.append(f"{descriptors()} fd, {gateway.pss_mb:.1f} MB, in use {gateway.in_use_mb():.2f}")
    print(f"{count} connections, a third aborted, {road.name}: {failed} errors; after each fifth: {'; '.join(marks)}")


SUITES = {
    "latency": measure_latency,
    "throughput": measure_throughput,
    "memory": measure_memory,
    "crowd": measure_crowd,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SUITES, default=list(SUITES))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=50, help="for the latency, each way")
    parser.add_argument("--megabytes", type=float, default=256, help="for the throughput")
    parser.add_argument("--gigabytes", type=float, default=2, help="each way, for the memory")
    parser.add_argument("--connections", type=int, default=10_000)
    options = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in machine_facts().items()))
    row("", "", ["direct", "splice", "intercept"])
    for suite in options.only:
        with tempfile.TemporaryDirectory(prefix="sb-") as scratch:
            SUITES[suite](options, Path(scratch))
        print(f"load {load_average()}", flush=True)


if __name__ == "__main__":
    main()
