"""Sandboxfile.yaml: text to one checked, frozen value. Pure: no subprocess, no network, no printing."""

from .agent import Agent, Secret
from .diagnostics import Diagnostic, SandboxfileError
from .endpoints import Endpoint
from .load import Inputs, Loaded, find, load, parse
from .machine import Machine, SetupStep
from .model import Sandbox
from .mounts import Mount
from .pending import not_yet
from .ports import Port
from .services import bind_mounts, build_contexts, published_ports, services_needing_mounts

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
    "not_yet",
    "parse",
    "published_ports",
    "services_needing_mounts",
]
