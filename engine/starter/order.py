"""The order in which what was left out is listed: what breaks first, comes first; what is for an editor, last."""

from __future__ import annotations

import re

from engine.starter.proposals import LeftOut

_BREAKS = """
    services dockerComposeFile onCreateCommand updateContentCommand postCreateCommand workspace workspaceFolder agent
    kits from
"""
_MATTERS = """
    features containerEnv remoteEnv env secrets bindings mounts additionalWorkspaces forwardPorts appPort ports image
    build dockerFile volumes networks configs include runArgs postStartCommand initializeCommand lifecycle
"""
_NOISE = """
    customizations extensions settings devPort portsAttributes otherPortsAttributes userEnvProbe overrideCommand
    shutdownAction waitFor init updateRemoteUserUID overrideFeatureInstallOrder version name args service
"""
_RANKS = {name: rank for rank, names in enumerate((_BREAKS, _MATTERS, "", _NOISE)) for name in names.split()}
_OTHER = 2


def by_weight(item: LeftOut) -> tuple[int, tuple[int, int]]:
    """The key to sort by: the weight of what was left out, then its place in the file."""
    match = re.match(r"[A-Za-z]+", item.path)
    return _RANKS.get(match[0] if match else "", _OTHER), item.position or (0, 0)
