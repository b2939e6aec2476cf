"""A test beside the vendors of client_vendor.py, in the network of vendor_network.py: what they got."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from world import UP_S, World

HERE = Path(__file__).parent
KEY = "real-and-never-in-the-guest"
SECRETS = dict.fromkeys(("VENDOR_KEY", "GH_TOKEN", "PACKAGES_TOKEN", "REGISTRY_TOKEN"), KEY)
MUST_BE_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="the vendors' network is made by root")
# Others than root make it as the root of a user namespace, and enter it as themselves by one more.
AS_ROOT = () if os.geteuid() == 0 else ("--user", "--map-root-user")
AS_ONESELF = () if not AS_ROOT else ("unshare", "--user", f"--map-user={os.getuid()}", f"--map-group={os.getgid()}")
NEEDS_NETWORK = pytest.mark.skipif(
    subprocess.run(["unshare", *AS_ROOT, "-m", "-n", "true"], stderr=subprocess.DEVNULL).returncode != 0,
    reason="the vendors' network needs namespaces, which this user may not make",
)


@dataclass
class Vendors:
    """`directory` is shared with the server: ca.crt, requests, and site/HOST/PATH, which it offers as it is."""

    directory: Path
    _seen: int = field(default=0)

    @property
    def certificate(self) -> str:
        """Of the CA of their servers, PEM."""
        return (self.directory / "ca.crt").read_text()

    def got(self) -> list[dict[str, Any]]:
        """What they got since this was asked last, in order."""
        log = self.directory / "requests"
        lines = log.read_text().splitlines() if log.exists() else []
        new = [json.loads(line) for line in lines[self._seen :]]
        self._seen = len(lines)
        return new


def values(request: dict[str, Any], header: str) -> list[str]:
    """All that a request says in a header, whatever the case of its name."""
    return [value for name, value in request["headers"] if name.lower() == header]


def build(world: World, project: Path, secrets: Mapping[str, str] = SECRETS) -> None:
    """Build what is not in the cache, where the real registries are: in the network there are none."""
    if ", 0 to build" in world.sandbox("plan", cwd=project, **secrets).ok().out:
        return
    options = ("-d", "--yes", "--progress", "plain")
    world.sandbox("up", *options, cwd=project, timeout_s=UP_S, **secrets).ok()
    world.sandbox("down", cwd=project).ok()


@contextlib.contextmanager
def start_vendors(
    world: World, names: Sequence[str], server: str = "client_vendor.py", secrets: Mapping[str, str] = SECRETS
) -> Iterator[Vendors]:
    """The servers, and the world's commands within their network, with `secrets` in their environment."""
    directory = world.base / "vendors"
    directory.mkdir(exist_ok=True)
    argv = ["unshare", *AS_ROOT, "-m", "-n", sys.executable, str(HERE / "vendor_network.py"), str(directory)]
    argv += ["--server", str(HERE / server), ",".join(names)]
    env = {**os.environ, **secrets}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as network:
        assert network.stdin is not None and network.stdout is not None
        assert network.stdout.readline() == "serving\n", "the vendors do not serve"
        says = [f"SSL_CERT_FILE={directory}/ca.crt", *(f"{name}={value}" for name, value in secrets.items())]
        enter = ["nsenter", f"--target={network.pid}", "--mount", "--net"]
        enter += ["--user", "--preserve-credentials"] if AS_ROOT else []
        world.within = lambda cwd: [*enter, f"--wd={cwd}", *AS_ONESELF, "env", *says]
        try:
            yield Vendors(directory)
        finally:
            world.sandbox("down", "--all", "--yes", cwd=world.base)
            world.within = lambda cwd: []
            network.stdin.close()


@contextlib.contextmanager
def start_host_service(world: World, port: int, text: str) -> Iterator[None]:
    """A web server on the loopback address of the host, as the world's commands see it: `/said` is `text`."""
    directory = world.base / f"service-{port}"
    directory.mkdir()
    (directory / "said").write_text(text)
    argv = [*world.within(directory), sys.executable, "-u", "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None and "Serving" in server.stdout.readline()
        try:
            yield
        finally:
            server.terminate()


@contextlib.contextmanager
def start_proxy(world: World, address: str, log: Path) -> Iterator[int]:
    """The port of connect_proxy.py on the loopback address of the host, as the world's commands see it."""
    argv = [*world.within(world.base), sys.executable, str(HERE / "connect_proxy.py"), address, str(log)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdin is not None and proxy.stdout is not None
        try:
            yield int(proxy.stdout.readline())
        finally:
            proxy.stdin.close()
