"""Debian packages of the file."""

from __future__ import annotations

from dataclasses import dataclass

from engine.build.context import BuildContext
from engine.build.step import execute
from engine.guest.guest import Guest
from sandboxfile import Endpoint

ENDPOINTS = (Endpoint(group="debian"),)  # whatever the file allows: packages come from there


@dataclass(frozen=True)
class Packages:
    """Install `names` by the guest's own apt, from the mirror that the host is configured with."""

    names: tuple[str, ...]

    async def act(self, guest: Guest, context: BuildContext) -> None:
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        await execute(guest, context, ["apt-get", "-qq", "update"], title="apt-get update", env=environment)
        install = ["apt-get", "-y", "-o", "Dpkg::Use-Pty=0", "install", "--no-install-recommends", "--", *self.names]
        await execute(guest, context, install, title=f"installing {' '.join(self.names)}", env=environment)
        await execute(guest, context, ["sh", "-c", "apt-get clean; rm -rf /var/lib/apt/lists/*"], title="cleaning up")
