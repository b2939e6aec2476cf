"""The `agents` section: several agents in one file, each with a sandbox of its own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sandboxfile.sections.agent import Agent
from sandboxfile.sections.endpoints import Endpoint
from sandboxfile.sections.fields import Maybe
from sandboxfile.sections.machine import Machine, PackageName, SetupStep
from sandboxfile.sections.mounts import Mount
from sandboxfile.sections.ports import Port

SECTIONS = ("machine", "packages", "setup", "mounts", "endpoints", "ports")


class AgentSandbox(Agent):
    """One agent of several. Its own sections are laid over the sections that all agents share."""

    machine: Maybe[Machine] = Field(default=None, description="What is different about this agent's machine.")
    packages: Annotated[tuple[PackageName, ...], Field(max_length=1000)] = Field(
        default=(), description="More Debian packages."
    )
    setup: Annotated[tuple[SetupStep, ...], Field(max_length=100)] = Field(
        default=(), description="More set-up commands, which run after the shared ones."
    )
    mounts: Annotated[tuple[Mount, ...], Field(max_length=64)] = Field(
        default=(), description="More mounts. One with the target of a shared mount replaces it."
    )
    endpoints: Annotated[tuple[Endpoint, ...], Field(max_length=1000)] = Field(
        default=(), description="More endpoints. One with the host and port of a shared endpoint replaces it."
    )
    ports: Annotated[tuple[Port, ...], Field(max_length=200)] = Field(
        default=(), description="More published ports. One with the guest port of a shared port replaces it."
    )
