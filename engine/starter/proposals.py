"""What a new Sandboxfile could say, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sandboxfile.positions import Position

LISTS = ("packages", "setup", "mounts", "endpoints", "ports")


@dataclass(frozen=True)
class Proposal:
    """One entry of a section. `path` is the section's name and, where that is a mapping, the keys below it.

    `remark` is written beside it and says what it comes from. One that is not `active` is written commented out.
    `part` is the section that it is there for, which may be another one: images of services need endpoints.
    """

    path: tuple[str, ...]
    value: Any
    remark: str
    active: bool = True
    part: str = ""

    @property
    def section(self) -> str:
        return self.path[0]


@dataclass(frozen=True)
class LeftOut:
    """Something of a converted file that the new one does not say. `path` is as people write it."""

    path: str
    reason: str
    position: Position | None = None


@dataclass
class Findings:
    """What was found. `notes` are for the user and not for the file; `agent` is a template's name."""

    proposals: list[Proposal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    agent: str | None = None
    hide: list[str] = field(default_factory=list)  # of the first mount
    local: list[str] = field(default_factory=list)
    mount: str = "rw"  # how the machine sees the project, where no mounts are proposed

    def propose(
        self, path: str | tuple[str, ...], value: Any, remark: str, *, active: bool = True, part: str = ""
    ) -> None:
        """Add a proposal, once."""
        keys = (path,) if isinstance(path, str) else path
        if not any(other.path == keys and other.value == value for other in self.proposals):
            self.proposals.append(Proposal(keys, value, remark, active, part or keys[0]))

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def without(self, parts: Iterable[str]) -> Findings:
        """The same without what is proposed for these sections."""
        dropped = set(parts)
        kept = [proposal for proposal in self.proposals if proposal.part not in dropped]
        return dataclasses.replace(self, proposals=kept)
