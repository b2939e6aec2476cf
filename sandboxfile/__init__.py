"""From the text of a Sandboxfile.yaml to one checked, frozen value. No subprocess, no network, no printing."""

from sandboxfile.compose.services import bind_mounts, build_contexts, published_ports, services_needing_mounts
from sandboxfile.diagnostics import Diagnostic, SandboxfileError
from sandboxfile.load import Inputs, Loaded, find, load, parse
from sandboxfile.sections.agent import Agent, Secret
from sandboxfile.sections.endpoints import Endpoint
from sandboxfile.sections.machine import Machine, SetupStep
from sandboxfile.sections.model import Sandbox
from sandboxfile.sections.mounts import Mount
from sandboxfile.sections.ports import Port

__all__ = [
    "Agent",
    "Diagnostic",
    "Endpoint",
    "Inputs",
    "Loaded",
    "Machine",
    "Mount",
    "Port",
    "Sandbox",
    "SandboxfileError",
    "Secret",
    "SetupStep",
    "bind_mounts",
    "build_contexts",
    "find",
    "load",
    "parse",
    "published_ports",
    "services_needing_mounts",
]
