"""The services of the file: their images, and the services that can run before anything is mounted."""

from __future__ import annotations

from dataclasses import dataclass

from engine.build.context import BuildContext
from engine.guest.guest import Guest
from engine.guest.services import get_images, put_contexts, put_project, start_services
from engine.resolve.compose import Compose


@dataclass(frozen=True)
class Images:
    """Build or pull the images of all services."""

    compose: Compose

    async def act(self, guest: Guest, context: BuildContext) -> None:
        project = self.compose.project(context.tree)
        await put_contexts(guest.channel, context.tree, project, project.built, context.log)
        await put_project(guest.channel, context.tree, project, context.log)
        await get_images(guest.channel, project, project.services, context.log)


@dataclass(frozen=True)
class Services:
    """Start every service that needs no live mount, and wait until it is healthy if it has a health check."""

    compose: Compose

    async def act(self, guest: Guest, context: BuildContext) -> None:
        await put_project(guest.channel, context.tree, self.compose.project(context.tree), context.log)
        await start_services(guest.channel, self.compose.early, context.log)
