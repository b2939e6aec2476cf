"""What `up` hands to a supervisor: one JSON value, everything decided, nothing left to read from the project."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from engine.decoding import decode
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule
from engine.guest.base import Base
from engine.guest.identity import Identity
from engine.secrets.places import SecretPlaces
from engine.workspaces.clone_point import ClonePoint
from engine.workspaces.mount_point import MountPoint
from vmm.processor_share import DEFAULT
from vmm.snapshot import Shape
from vmm.spec import HostForward
from vmm.tools import load_tools


@dataclass(frozen=True)
class Launch:
    """One sandbox, ready to be started.

    `late` are the services that wait for the mounts, `services` all of them; `compose` is the project's file, in the
    guest already when no service is late. `unconfined_mounts` serves mounts where this host confines nothing, too.
    `secrets` are those that endpoints use. `roots` are the layout's variables. `proxies` are those of the user's
    environment; they may hold credentials, and so travel over the socket only. `clones` are copied by the supervisor.
    `doors` are those of the policy: the machine's network is begun before the gateway is loaded. `addresses` are those
    that names have in a guest that goes on.
    With `resume`, the sandbox goes on where it was paused; with `boot`, it boots the disk that it was stopped with.
    With `forked`, `snapshot` is the directory of what a running sandbox was at one moment (ForkPaths): what is in its
    guest is not brought there once more. `network_rate` is in bytes per second. `cpu_weight` is a control group's.
    With `for_task` it is there for one command, and ends with that (tie.py).
    """

    name: str
    roots: dict[str, str]
    toolchain: str
    root: str
    initrd: str
    shape: Shape
    snapshot: str
    mounts: tuple[MountPoint, ...]
    rules: tuple[Rule, ...]
    forwards: tuple[HostForward, ...]
    identity: Identity
    services: tuple[str, ...]
    late: tuple[str, ...]
    project_name: str
    compose: str | None
    unconfined_mounts: bool = False
    secrets: SecretPlaces = field(default_factory=SecretPlaces)
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    clones: tuple[ClonePoint, ...] = ()
    doors: tuple[tuple[str, int], ...] = ()
    addresses: Mapping[str, str] = field(default_factory=dict)
    resume: bool = False
    forked: bool = False
    boot: bool = False
    network_rate: int | None = None
    cpu_weight: int = DEFAULT
    for_task: bool = False

    def base(self) -> Base:
        return Base(load_tools(Path(self.toolchain)), Path(self.root), Path(self.initrd), self.shape)

    def policy(self) -> Policy:
        return Policy(self.rules)

    def without_values(self) -> Launch:
        """The same without what must not be on a disk: values of secrets, and proxies that may hold them."""
        return replace(self, secrets=replace(self.secrets, environment={}, answers={}), proxies={})

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Launch:
        """Raises ValueError for what is no launch."""
        return decode(cls, json.loads(text))
