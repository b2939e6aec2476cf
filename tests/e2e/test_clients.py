"""Clients that people and agents use, in the guest, through interception: what they see, and what the vendor gets.

CLIENTS are the ones that are cheap enough for each run. COMPILERS need hundreds of megabytes each, and run where
SANDBOX_TEST_CLIENTS is set (`make clients`).
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from package_site import HOSTS, make_package_site
from vendors import KEY, MUST_BE_ROOT, Vendors, build, start_vendors, values
from world import Ran, World

pytestmark = MUST_BE_ROOT

SCRIPTS = Path(__file__).parent / "clients"
NAMES = ("api.example.com", "grpc.example.com", "github.com", *HOSTS)
FILE = """
name: clients
mounts: [.:/workspace]
packages: [{packages}]
setup: {setup}
secrets: {{vendor: {{env: VENDOR_KEY}}, github: {{env: GH_TOKEN}}}}
endpoints:
  - debian
  - npm
  - pypi
  - {{host: "*.example.com", secret: vendor}}
  - {{host: github.com, secret: github}}
"""
INSTALL = (
    "- {run: \"pip install -q --no-cache-dir uv 'httpx[http2]' requests aiohttp websockets grpcio\", user: root}",
    '- {run: "npm install -g --silent pnpm@10 yarn@1", user: root}',
)


@dataclass(frozen=True)
class Client:
    """What runs it, all that it says, and requests (version of HTTP, method, host and path) that it must have made."""

    run: str
    said: str
    asked: tuple[str, ...]


def api(number: str, path: str, method: str = "POST") -> str:
    return f"{number} {method} api.example.com{path}"


CLIENTS = {
    "curl, HTTP/1.1": Client("sh -eu curl1.sh", "POST /curl1 4\n", (api("1.1", "/curl1"),)),
    "curl, HTTP/2": Client("sh -eu curl2.sh", "POST /curl2 4\n", (api("2", "/curl2"),)),
    "git": Client(
        "sh -eu git.sh",
        "refs/heads/agent\n",
        tuple(f"2 POST github.com/acme/shop.git/git-{what}-pack" for what in ("upload", "receive")),
    ),
    "npm": Client("sh -eu npm.sh", "tiny 1.0.0\n", ("1.1 GET npm.example.com/tiny/-/tiny-1.0.0.tgz",)),
    "pnpm": Client("sh -eu pnpm.sh", "tiny 1.0.0\n", ("1.1 GET npm.example.com/tiny/-/tiny-1.0.0.tgz",)),
    "yarn": Client("sh -eu yarn.sh", "tiny 1.0.0\n", ("1.1 GET npm.example.com/tiny/-/tiny-1.0.0.tgz",)),
    "pip": Client("sh -eu pip.sh", "tiny 1.0\n", ("1.1 GET pypi.example.com/tiny-1.0-py3-none-any.whl",)),
    "uv": Client("sh -eu uv.sh", "tiny 1.0\n", ("2 GET pypi.example.com/tiny-1.0-py3-none-any.whl",)),
    "apt": Client("sh -eu apt.sh", "tiny 1.0\n", ("1.1 GET apt.example.com/tiny.deb",)),
    "Node's fetch": Client("node fetch.mjs", "POST /fetch 4\n", (api("1.1", "/fetch"),)),
    "urllib": Client("python3 with_urllib.py", "POST /urllib 4\n", (api("1.1", "/urllib"),)),
    "requests": Client("python3 with_requests.py", "POST /requests 4\n", (api("1.1", "/requests"),)),
    "aiohttp": Client("python3 with_aiohttp.py", "POST /aiohttp 4\n", (api("1.1", "/aiohttp"),)),
    "httpx": Client(
        "python3 with_httpx.py",
        "HTTP/1.1 POST /httpx 4\nHTTP/2 POST /httpx 4\n",
        (api("1.1", "/httpx"), api("2", "/httpx")),
    ),
    "server-sent events": Client(
        "python3 events.py",
        "".join(f"HTTP/{number} data: {event}\n" for number in ("1.1", "2") for event in range(3)),
        (api("1.1", "/sse", "GET"), api("2", "/sse", "GET")),
    ),
    "websockets": Client("python3 with_websockets.py", "got hello\nTrue\n1000\n", (api("1.1", "/ws", "WEBSOCKET"),)),
    "gRPC": Client(
        "python3 with_grpc.py",
        "got one\n0 many 1 many 2 many\ngot a got b\nINVALID_ARGUMENT no such thing asked for\n",
        tuple(f"2 RPC grpc.example.com/test.Echo/{method}" for method in ("Unary", "Stream", "Chat", "Fail")),
    ),
}
# Debian's packages with them, and the client.
COMPILERS = {
    "go": (
        "golang-go",
        Client("sh -eu go.sh", "tiny 1.0.0\n", ("2 GET go.example.com/tiny.example.com/tiny/@v/v1.0.0.zip",)),
    ),
    "cargo": (
        "cargo",
        Client("sh -eu cargo.sh", "tiny 1.0.0\n", ("2 GET crates.example.com/dl/tiny/1.0.0/download",)),
    ),
    "java": (
        "default-jdk-headless, ca-certificates-java",
        Client(
            "java Client.java",
            "HTTP_1_1 POST /java 4\nHTTP_2 POST /java 4\n",
            (api("1.1", "/java"), api("2", "/java")),
        ),
    ),
}


OF_COMPILERS = ("crates.example.com", "go.example.com")


def started(world: World, packages: str = "", setup: tuple[str, ...] = ()) -> Path:
    files = {path.name: path.read_text() for path in SCRIPTS.iterdir()}
    text = FILE.format(packages=packages, setup="".join(f"\n  {step}" for step in setup) or "[]")
    project = world.project(text, files)
    make_package_site(world.base / "vendors/site")
    return project


def check(world: World, project: Path, vendors: Vendors, client: Client) -> str:
    """Run it; what is wrong about what it said, and about what the vendors got."""
    ran: Ran = world.run(project, f"cd $(mktemp -d) && cp /workspace/* . && {client.run}", timeout_s=900)
    got = vendors.got()
    asked = {f"{one['version']} {one['method']} {one['host']}{one['path']}" for one in got}
    basic = f"Basic {base64.b64encode(f'x-access-token:{KEY}'.encode()).decode()}"
    wrong = [f"ended with {ran.code}: {ran.err[-2000:]}"] if ran.code else []
    wrong += [f"said {ran.out!r}"] if ran.out != client.said else []
    wrong += [f"did not ask {one}, but {sorted(asked)}" for one in client.asked if one not in asked]
    for one in got:
        real = [basic if one["host"] == "github.com" else f"Bearer {KEY}"]
        if values(one, "authorization") != real:
            wrong.append(f"sent {one}")
    return "\n".join(wrong)


def test_the_clients_of_each_day(world: World) -> None:
    project = started(world, setup=INSTALL)
    build(world, project)
    with start_vendors(world, NAMES) as vendors:
        world.up(project)
        wrong = {name: check(world, project, vendors, client) for name, client in CLIENTS.items()}
        assert not any(wrong.values()), "\n\n".join(f"{name}: {what}" for name, what in wrong.items() if what)
        judged = {(line["host"], line["verdict"]) for line in world.journal(project) if line["host"] in NAMES}
        assert judged == {(name, "allowed") for name in NAMES if name not in OF_COMPILERS}


@pytest.mark.skipif("SANDBOX_TEST_CLIENTS" not in os.environ, reason="hundreds of megabytes: set SANDBOX_TEST_CLIENTS")
@pytest.mark.parametrize("name", COMPILERS)
def test_the_clients_of_compilers(world: World, name: str) -> None:
    packages, client = COMPILERS[name]
    project = started(world, packages=packages)
    build(world, project)
    with start_vendors(world, NAMES) as vendors:
        world.up(project)
        assert check(world, project, vendors, client) == ""
