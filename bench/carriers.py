"""What carries the guest's packets, measured: passt beside QEMU's user network, two guests of one snapshot, by turns.

    python bench/carriers.py --runs 5
    python bench/carriers.py --runs 3 --json numbers.json

Each guest has a gateway of its own. The server behind both is another process of this host, so all bytes stay here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from series import Comparison, Series, load_average, machine_facts

from engine.build.blueprint import Blueprint, build
from engine.build.foundation import load_base
from engine.gateway import upstream
from engine.gateway.journal import Journal
from engine.gateway.lookups import Lookups
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule
from engine.gateway.upstream import Streams
from engine.guest.base import Base
from engine.guest.guest import Guest, open_guest
from engine.guest.identity import Identity
from engine.report.choice import make_reporter
from engine.state.layout import Layout
from sandboxfile import load
from vmm.carrier import CARRIER_VARIABLE
from vmm.disk import make_overlay
from vmm.process import guarded_directory, spawn
from vmm.snapshot import Snapshot, load_snapshot

CARRIERS = ("passt", "user")
HOST = "bench.example.com"
MEGABYTES = 100
LIMIT_S = 600.0
CLIENT = Path(__file__).with_name("requests_in_guest.py")
FILE = 'version: "1"\nname: bench\nmounts: [.:/workspace]\nendpoints: [bench.example.com]\n'
# (name, path, requests, at once)
TASKS = (
    ("first byte of a small request", "/small", 20, 1),
    (f"{MEGABYTES} MB", f"/{MEGABYTES}", 1, 1),
    ("200 connections at once", "/small", 200, 200),
    ("1,000 connections, 20 at a time", "/small", 1000, 20),
)


@dataclass
class Seen:
    """What one carrier showed in one task: seconds of each run, errors, and the most processes at a time."""

    seconds: list[float] = field(default_factory=list)
    errors: int = 0
    processes: int = 0


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request: 200 bytes for /small, as many megabytes as the path says for others."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode().lstrip("/")
        size = 200 if path == "small" else int(path) * 1_000_000
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode())
        for start in range(0, size, 1 << 17):
            writer.write(bytes(min(1 << 17, size - start)))
            await writer.drain()
    writer.close()


async def serve() -> None:
    """The server's process: says its port, and answers until it is ended."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def descendants() -> int:
    """How many processes descend from this one."""
    parents = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(directory.name)] = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
    known = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in known and pid not in known}:
        known |= more
    return len(known) - 1


@contextlib.asynccontextmanager
async def counted() -> AsyncIterator[list[int]]:
    """The most descendants of this process at a time, less those that there were before, in the list's only item."""
    before, most = descendants(), [0]

    async def look() -> None:
        while True:
            most[0] = max(most[0], descendants() - before)
            await asyncio.sleep(0.05)

    looking = asyncio.create_task(look())
    try:
        yield most
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


@contextlib.contextmanager
def chosen(carrier: str) -> Iterator[None]:
    os.environ[CARRIER_VARIABLE] = carrier
    try:
        yield
    finally:
        del os.environ[CARRIER_VARIABLE]


def lead_to(port: int) -> None:
    """Every name is a public address for the gateway's check, and a connection to it goes to the server here."""

    async def resolve(name: str, guest_port: int) -> list[str]:
        return ["203.0.113.1"]

    async def connect(address: str, guest_port: int) -> Streams:
        return await asyncio.open_connection("127.0.0.1", port, limit=1 << 17)

    Lookups.resolve = staticmethod(resolve)  # type: ignore[method-assign,assignment]
    upstream.connect = connect


async def build_parent(scratch: Path) -> tuple[Base, Snapshot]:
    """What the guests of a measurement are clones of: the booted machine, from the user's cache."""
    project = scratch / "project"
    project.mkdir()
    (project / "Sandboxfile.yaml").write_text(FILE)
    blueprint = Blueprint.of(load(project / "Sandboxfile.yaml"), Layout.from_environment(os.environ))
    with make_reporter(sys.stderr, "auto") as reporter:
        built = await build(blueprint, reporter)
    return load_base(built.entries, built.blueprint.chain.shape), load_snapshot(built.snapshot)


async def open_guests(stack: contextlib.AsyncExitStack, scratch: Path) -> dict[str, Guest]:
    """One guest for each carrier, both from the snapshot of the booted machine."""
    base, parent = await build_parent(scratch)
    guests = {}
    for carrier in CARRIERS:
        runtime = stack.enter_context(guarded_directory(scratch / carrier))
        disk = scratch / f"{carrier}.qcow2"
        await make_overlay(base.tools, disk, parent.disk, "qcow2")
        with chosen(carrier):
            guests[carrier] = await stack.enter_async_context(
                open_guest(
                    base,
                    name=f"bench-{carrier}",
                    disk=disk,
                    parent=parent,
                    policy=Policy([Rule(HOST)]),
                    identity=Identity("bench"),
                    runtime=runtime,
                    journal=stack.enter_context(contextlib.closing(Journal(scratch / f"{carrier}.jsonl"))),
                )
            )
    return guests


async def ask(guest: Guest, seen: Seen, path: str, count: int, at_once: int) -> None:
    async with counted() as most:
        done = await guest.channel.run(
            ["python3", "-", path, str(count), str(at_once)], stdin=CLIENT.read_bytes(), timeout_s=LIMIT_S
        )
    if done.code:
        raise RuntimeError(done.stderr.decode(errors="replace"))
    told: dict[str, Any] = json.loads(done.stdout)
    seen.errors += sum(told["errors"].values())
    seen.processes = max(seen.processes, most[0])
    seen.seconds.append(statistics.median(told["each"]) if path == "/small" and at_once == 1 else told["seconds"])


async def measure(runs: int) -> list[dict[str, Any]]:
    """Every task on both guests by turns, `runs` times."""
    async with contextlib.AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sb-")))
        server = await stack.enter_async_context(
            spawn([sys.executable, __file__, "--serve"], stdout=asyncio.subprocess.PIPE)
        )
        assert server.stdout is not None
        lead_to(int(await server.stdout.readline()))
        guests = await open_guests(stack, scratch)
        results = []
        for name, path, count, at_once in TASKS:
            seen = {carrier: Seen() for carrier in CARRIERS}
            for _ in range(runs):
                for carrier in CARRIERS:
                    await ask(guests[carrier], seen[carrier], path, count, at_once)
            series = {carrier: Series(carrier, seen[carrier].seconds) for carrier in CARRIERS}
            comparison = Comparison(name, series["passt"], series["user"])
            facts = {carrier: {"errors": s.errors, "processes": s.processes} for carrier, s in seen.items()}
            shown = ", ".join(f"{carrier} {series[carrier]} {facts[carrier]}" for carrier in CARRIERS)
            print(f"{name}: {shown}, ratio {comparison.ratio:.2f}", flush=True)
            results.append({**comparison.to_json(), **facts})
        return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    began, facts = time.time(), machine_facts()
    results = asyncio.run(measure(options.runs))
    print(f"{time.time() - began:.0f} s in all, load {facts['load_before']} before and {load_average()} after")
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
