"""What `up` asks of the supervisor of a running sandbox: one JSON value, everything decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engine.decoding import decode
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule
from engine.guest.compose_project import ComposeProject
from engine.secrets.places import SecretPlaces
from engine.state.configuration import PARTS, Configuration, Part
from engine.state.instances import AgentCall, Keeps
from vmm.spec import HostForward


@dataclass(frozen=True)
class Adjustment:
    """`configuration` is what the sandbox is to have afterwards.

    `parts` are those that have to change, each with the sections of the file that are in force then. `files` are
    (path, mode, text) for the guest's package clients. `project` is None when no service is left of `project_name`;
    `images` are the services whose image may be another one. `agent` and `keeps` are
    the record's.
    `environment` is added to the guest's, and `secrets` are those that endpoints use then, of the kinds `kinds`.
    `seeds` (path, mode, text) are files of the agent's user `user` that are other ones then, and
    `note` (path, text) is what the agent is told about its machine.
    """

    configuration: Configuration
    parts: Mapping[Part, tuple[str, ...]]
    rules: tuple[Rule, ...]
    files: tuple[tuple[str, int, str], ...]
    forwards: tuple[HostForward, ...]
    project_name: str
    project: ComposeProject | None
    images: tuple[str, ...] = ()
    agent: AgentCall | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: SecretPlaces = field(default_factory=SecretPlaces)
    seeds: tuple[tuple[str, int, str], ...] = ()
    user: str = "agent"
    note: tuple[str, str] | None = None
    keeps: Keeps | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)

    def policy(self) -> Policy:
        return Policy(self.rules)

    def to_json(self) -> dict[str, Any]:
        parts = {"agent": self.agent, "keeps": self.keeps}
        return {**asdict(self), **{name: part._asdict() if part else None for name, part in parts.items()}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Adjustment:
        """Raises ValueError for what is no adjustment."""
        sent = decode(cls, value)
        return replace(sent, parts={part: sent.parts[part] for part in PARTS if part in sent.parts})
