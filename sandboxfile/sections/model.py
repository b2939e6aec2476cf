"""The whole file as one frozen value."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, Strict, model_validator

from sandboxfile.sections.agent import Agent, Secret
from sandboxfile.sections.agents import AgentSandbox
from sandboxfile.sections.endpoints import Endpoint, SecretName
from sandboxfile.sections.fields import Grammar, Maybe, Name, OneOf, Part, refuse
from sandboxfile.sections.machine import Machine, PackageName, SetupStep
from sandboxfile.sections.mounts import MOST_MOUNTS, Mount
from sandboxfile.sections.ports import Port

ComposeSection = Annotated[dict[str, dict[str, Any]], Field(max_length=200)]
OptionalComposeSection = Annotated[dict[str, dict[str, Any] | None], Field(max_length=200)]


ProfileName = Annotated[
    str, Strict(), Grammar(r"^([a-zA-Z0-9][a-zA-Z0-9_.-]*|\*)$", "must be the name of a profile, or *", "such as debug")
]


class Sandbox(Part):
    """A sandbox: one microVM with an agent, its workspace, its services, and everything that it may reach."""

    version: Annotated[Literal["1"], OneOf(("1",))] = Field(description='The version of this format: "1".')
    name: Name = Field(
        default_factory=lambda: "sandbox", description="The sandbox's name. Default: the name of the file's directory."
    )
    agent: Maybe[Agent] = Field(default=None, description="The coding agent that works in the sandbox.")
    agents: Annotated[dict[Name, AgentSandbox], Field(max_length=20)] = Field(
        default_factory=dict,
        description="Several agents, each in a sandbox of its own that shares everything else in this file.",
    )
    machine: Machine = Field(default_factory=Machine, description="The virtual machine's size.")
    packages: Annotated[tuple[PackageName, ...], Field(max_length=1000)] = Field(
        default=(), description="Debian packages that are part of the guest."
    )
    setup: Annotated[tuple[SetupStep, ...], Field(max_length=100)] = Field(
        default=(), description="Commands that prepare the guest, in order. Each one's result is kept in a snapshot."
    )
    mounts: Annotated[tuple[Mount, ...], Field(max_length=MOST_MOUNTS)] = Field(
        default=(), description="Directories of the host in the guest. The first one is the working directory."
    )
    endpoints: Annotated[tuple[Endpoint, ...], Field(max_length=1000)] = Field(
        default=(), description="What the guest may talk to. Everything else is refused; deny beats allow."
    )
    secrets: Annotated[dict[SecretName, Secret], Field(max_length=200)] = Field(
        default_factory=dict,
        description="Names of the secrets that endpoints use; the values come from the user's side.",
    )
    services: ComposeSection = Field(
        default_factory=dict, description="Services in the guest's private Docker, as in the Compose specification."
    )
    profiles: Annotated[tuple[ProfileName, ...], Field(max_length=100)] = Field(
        default=(), description="The active profiles: services with `profiles` run only if one of theirs is here."
    )
    volumes: OptionalComposeSection = Field(
        default_factory=dict, description="Volumes, as in the Compose specification."
    )
    networks: OptionalComposeSection = Field(
        default_factory=dict, description="Networks, as in the Compose specification."
    )
    configs: ComposeSection = Field(default_factory=dict, description="Configs, as in the Compose specification.")
    ports: Annotated[tuple[Port, ...], Field(max_length=200)] = Field(
        default=(), description="Ports of the guest that the host's loopback address offers."
    )

    @model_validator(mode="after")
    def _one_way_to_name_agents(self) -> Sandbox:
        if self.agents and self.agent is not None:
            raise refuse("stands beside `agent`", "move the agent into `agents`", "agents")
        return self
