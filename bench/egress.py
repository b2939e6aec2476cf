"""What the gateway costs a guest: TLS through it, spliced and intercepted, beside a guest on an unrestricted network.

    python bench/egress.py                       all of it, some minutes with a warm cache
    python bench/egress.py --runs 3 --only down kept
    python bench/egress.py --json numbers.json

Two guests of one snapshot. One has a gateway, and two names there: one is spliced, the other intercepted. The other
guest has QEMU's user network without a restriction, as a plain virtual machine has it. The server is another process of
this host, so all bytes stay here. By turns, in one run; nothing here asserts anything about time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carriers import build_parent, chosen
from gateway_peers import has_node, make_certificate, start_server
from series import load_average, machine_facts

from engine.gateway import upstream
from engine.gateway.journal import Journal
from engine.gateway.lookups import Lookups
from engine.gateway.policy import Policy
from engine.gateway.rules import Injection, Rule
from engine.gateway.upstream import Streams
from engine.guest.guest import Guest, open_guest
from engine.guest.identity import Identity
from vmm import machine
from vmm.disk import make_overlay
from vmm.process import guarded_directory
from vmm.spec import GATEWAY_ADDRESS, ROUTER_ADDRESS

PLAIN, SPLICED, INTERCEPTED = "plain.example.com", "spliced.example.com", "intercepted.example.com"
ROADS = {"plain": PLAIN, "spliced": SPLICED, "intercepted": INTERCEPTED}
LIMIT_S = 600.0
CLIENT = Path(__file__).with_name("egress_in_guest.py")
TITLES = {
    "down": "download, HTTP/1.1",
    "up": "upload, HTTP/1.1",
    "down2": "download, HTTP/2",
    "up2": "upload, HTTP/2",
    "kept": "small request, kept connection",
    "new": "small request, new connection",
    "crowd": "200 connections at once, 5 requests each",
}
COUNTS = {"kept": 50, "new": 10, "crowd": 200}


class Server:
    """Every name is a public address for the gateway's check, and a connection to it goes to `port` here."""

    port = 0

    async def resolve(self, name: str, guest_port: int) -> list[str]:
        return ["203.0.113.1"]

    async def connect(self, address: str, guest_port: int) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 17)


@contextlib.contextmanager
def unrestricted() -> Iterator[None]:
    """Machines that start in the block are on the user network, and may reach what this host may."""
    arguments = machine.qemu_arguments  # type: ignore[attr-defined]

    def open_up(*given: Any, **named: Any) -> list[str]:
        return [word.replace("restrict=on", "restrict=off") for word in arguments(*given, **named)]

    machine.qemu_arguments = open_up  # type: ignore[attr-defined]
    try:
        with chosen("user"):
            yield
    finally:
        machine.qemu_arguments = arguments  # type: ignore[attr-defined]


async def open_guests(stack: contextlib.AsyncExitStack, scratch: Path) -> dict[str, Guest]:
    """The guest behind a gateway and the plain one, both from the snapshot of the booted machine."""
    base, parent = await build_parent(scratch)
    rules = [Rule(SPLICED), Rule(INTERCEPTED, injections=(Injection("key", "authorization", "bearer"),))]

    async def open_one(name: str, policy: Policy) -> Guest:
        disk = scratch / f"{name}.qcow2"
        await make_overlay(base.tools, disk, parent.disk, "qcow2")
        return await stack.enter_async_context(
            open_guest(
                base,
                name=f"bench-{name}",
                disk=disk,
                parent=parent,
                policy=policy,
                identity=Identity("bench"),
                runtime=stack.enter_context(guarded_directory(scratch / name)),
                journal=stack.enter_context(contextlib.closing(Journal(scratch / f"{name}.jsonl"))),
                secret_of=lambda _: "sk-of-the-bench-0123456789",
            )
        )

    gated = await open_one("gated", Policy(rules))
    with unrestricted():
        plain = await open_one("plain", Policy(()))
    return {"plain": plain, "spliced": gated, "intercepted": gated}


async def take(guest: Guest, road: str, task: str, port: int, size: int) -> tuple[list[float], dict[str, int]]:
    """Seconds of each thing that the client there did, and its errors. Raises RuntimeError with its words."""
    address = (ROUTER_ADDRESS, port) if road == "plain" else (GATEWAY_ADDRESS, 443)
    argv = ["python3", "-", task, address[0], str(address[1]), ROADS[road], str(size)]
    done = await guest.channel.run(argv, stdin=CLIENT.read_bytes(), timeout_s=LIMIT_S)
    if done.code:
        raise RuntimeError(done.stderr.decode(errors="replace"))
    told = json.loads(done.stdout)
    return told["each"], told["errors"]


async def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    async with contextlib.AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sb-")))
        certificate = make_certificate(scratch, tuple(ROADS.values()))
        os.environ["SSL_CERT_FILE"] = str(certificate)
        servers = {False: int(stack.enter_context(start_server(certificate)).said)}
        if has_node():
            servers[True] = int(stack.enter_context(start_server(certificate, node=True)).said)
        server = Server()
        Lookups.resolve = staticmethod(server.resolve)  # type: ignore[method-assign,assignment]
        upstream.connect = server.connect  # type: ignore[assignment]
        guests = await open_guests(stack, scratch)
        results = []
        for task in options.only:
            if (port := servers.get(task.endswith("2"))) is None:
                print(f"{TITLES[task]}: left out, it needs node", flush=True)
                continue
            server.port = port
            size = COUNTS.get(task, int(options.megabytes * 1_000_000))
            seconds: dict[str, list[float]] = {road: [] for road in ROADS}
            errors: dict[str, int] = dict.fromkeys(ROADS, 0)
            kinds: Counter[str] = Counter()
            for _ in range(options.runs):
                for road, guest in guests.items():
                    each, failed = await take(guest, road, task, port, size)
                    seconds[road] += each
                    errors[road] += sum(failed.values())
                    kinds += Counter(failed)
            if any(errors.values()):
                print(f"{TITLES[task]}: {kinds}", flush=True)
            results.append(show(task, seconds, errors, options.megabytes))
        return results


def show(task: str, seconds: dict[str, list[float]], errors: dict[str, int], megabytes: float) -> dict[str, Any]:
    medians = {road: statistics.median(values) for road, values in seconds.items()}
    plain = medians["plain"]
    words = []
    for road, median in medians.items():
        if task in COUNTS:
            added = "" if road == "plain" else f" ({(median - plain) * 1000:+.1f})"
            words.append(f"{road} {median * 1000:.1f} ms{added}")
        else:
            ratio = "" if road == "plain" else f" ({plain / median:.2f} of plain)"
            words.append(f"{road} {megabytes / median:.1f} MB/s{ratio}")
    print(f"{TITLES[task]}: {', '.join(words)}; errors {errors}", flush=True)
    return {"task": TITLES[task], "seconds": seconds, "medians": medians, "errors": errors}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=50)
    parser.add_argument("--only", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    began, facts = time.time(), machine_facts()
    results = asyncio.run(measure(options))
    print(f"{time.time() - began:.0f} s in all, load {facts['load_before']} before and {load_average()} after")
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
