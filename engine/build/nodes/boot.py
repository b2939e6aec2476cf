"""The first guest node: a cold boot, until Docker runs and has its local base image."""

from __future__ import annotations

from dataclasses import dataclass

from engine.build.context import BuildContext
from engine.build.step import execute
from engine.guest.guest import Guest

DOCKER_S = 300.0
BASE_IMAGE = "localhost/debian:13"


@dataclass(frozen=True)
class Boot:
    """Wait for Docker, and load the image from which services can be built without any registry."""

    async def act(self, guest: Guest, context: BuildContext) -> None:
        context.log("waiting for Docker")
        await guest.channel.call("wait_unit", timeout_s=DOCKER_S, unit="docker.service")
        context.log(f"loading {BASE_IMAGE}")
        load = ["docker", "import", "--change", 'CMD ["bash"]', "/usr/share/sandbox/debian-13.tar", BASE_IMAGE]
        await execute(guest, context, load, title="loading the base container image", timeout_s=DOCKER_S)
