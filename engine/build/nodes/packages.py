"""The Debian packages of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.build.context import BuildContext
from engine.build.step import execute
from engine.guest.guest import Guest
from sandboxfile import Endpoint

ENDPOINTS = (Endpoint(group="debian"),)  # the step may reach this group, whatever endpoints the file has


@dataclass(frozen=True)
class Packages:
    """Install `names` with the guest's apt, from the mirror that the host's apt uses."""

    names: tuple[str, ...]

    async def act(self, guest: Guest, context: BuildContext) -> None:
        await install_packages(guest, context, self.names)


async def install_packages(guest: Guest, context: BuildContext, names: Sequence[str]) -> None:
    """Install Debian packages with the guest's apt, and forget its lists again. Raises EngineError."""
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    await execute(guest, context, ["apt-get", "-qq", "update"], title="apt-get update", env=environment)
    install = ["apt-get", "-y", "-o", "Dpkg::Use-Pty=0", "install", "--no-install-recommends", "--", *names]
    await execute(guest, context, install, title=f"installing {' '.join(names)}", env=environment)
    await execute(guest, context, ["sh", "-c", "apt-get clean; rm -rf /var/lib/apt/lists/*"], title="cleaning up")
