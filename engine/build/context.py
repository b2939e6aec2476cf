"""What the scheduler gives to whatever makes a node's entry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import EngineError
from engine.guest.guest import Guest
from engine.project.tree import ProjectTree
from engine.state.layout import Sockets

OnFailure = Callable[[Guest, EngineError], Awaitable[None]]


@dataclass(frozen=True)
class BuildSession:
    """What one run has for all its nodes: nothing of it decides what a node becomes.

    `tree` is the project that copies come from. `on_failure` is called with the guest and the failure, in the place
    where a step failed, when the user asked for a shell there.
    """

    tree: ProjectTree
    on_failure: OnFailure | None = None


@dataclass(frozen=True)
class BuildContext:
    """What a node's work gets: it fills `directory`; nothing else lasts.

    `parents` are the cache entries of all `needs`, by node id. `log` takes one line of output, from any thread.
    `sockets` is a short private directory, gone afterwards, for the machines that the work starts.
    """

    directory: Path
    parents: Mapping[str, Path]
    log: Callable[[str], None]
    sockets: Sockets
    session: BuildSession | None = None

    @property
    def tree(self) -> ProjectTree:
        """The project. Only steps of a file ask for it, and those have a session."""
        assert self.session is not None, "tools are built without a project, and copy nothing of one"
        return self.session.tree
