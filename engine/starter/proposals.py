"""Proposals for a new Sandboxfile, with their reasons."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.workspaces.own_directories import why_not_local
from sandboxfile.positions import Position

LISTS = ("packages", "setup", "mounts", "endpoints", "ports")


@dataclass(frozen=True)
class Proposal:
    """A proposed entry of a section. `path` is the section's name and, if the section is a mapping, the keys below it.

    `remark` says where the proposal comes from; it is written beside the entry. A proposal that is not `active` is
    written commented out. `parts` are the sections that need the entry, which may be other ones: services need
    endpoints for their images.
    """

    path: tuple[str, ...]
    value: Any
    remark: str
    active: bool = True
    parts: frozenset[str] = frozenset()

    @property
    def section(self) -> str:
        return self.path[0]


@dataclass(frozen=True)
class LeftOut:
    """A value of a converted file that is not carried over. `path` is written for people."""

    path: str
    reason: str
    position: Position | None = None


@dataclass
class Findings:
    """What was found in a project or a file.

    `notes` are for the user, not for the new file. `agent` is the name of a template.
    """

    proposals: list[Proposal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    agent: str | None = None
    hide: list[str] = field(default_factory=list)  # for the first mount, as is `local`
    local: list[str] = field(default_factory=list)
    variables: set[str] = field(default_factory=set)  # that Compose files demand, and that are not set
    mount: str = "rw"  # how the machine sees the project, where no mounts are proposed

    def propose(
        self, path: str | tuple[str, ...], value: Any, remark: str, *, active: bool = True, part: str = ""
    ) -> None:
        """Add a proposal. `part` is the section that needs the entry, if that is not its own one."""
        keys = (path,) if isinstance(path, str) else path
        self.take(Proposal(keys, value, remark, active, frozenset([part or keys[0]])))

    def take(self, proposal: Proposal) -> None:
        """Add a proposal. Of two for the same value one stays, which is active and needed where either of them is."""
        for index, other in enumerate(self.proposals):
            if other.path == proposal.path and other.value == proposal.value:
                chosen = proposal if proposal.active and not other.active else other
                self.proposals[index] = dataclasses.replace(chosen, parts=other.parts | proposal.parts)
                return
        self.proposals.append(proposal)

    def keep_local(self, root: Path, name: str) -> None:
        """Leave the directory `name` of the project in `root` to the machine's own disk, if it is no file or link."""
        if name not in self.local and why_not_local(root, name) is None:
            self.local.append(name)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def without(self, parts: Iterable[str]) -> Findings:
        """These findings without the proposals that only the sections `parts` need."""
        dropped = set(parts)
        kept = [proposal for proposal in self.proposals if not proposal.parts <= dropped]
        return dataclasses.replace(self, proposals=kept)
