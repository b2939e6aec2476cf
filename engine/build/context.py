"""What the scheduler gives to whatever makes a node's entry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import EngineError
from engine.guest.guest import Guest
from engine.project.tree import ProjectTree
from engine.state.instance_paths import Sockets

OnFailure = Callable[[Guest, EngineError], Awaitable[None]]


@dataclass(frozen=True)
class BuildSession:
    """What all nodes of one run share. It has no influence on what a node becomes.

    `tree` is the project that files are copied from. If the user asked for a shell on failure, `on_failure` is called
    with the guest and the error when a step fails, while the guest still runs.
    """

    tree: ProjectTree
    on_failure: OnFailure | None = None


@dataclass(frozen=True)
class BuildContext:
    """What the work of a node is given. It fills `directory`, which becomes the cache entry.

    `parents` are the cache entries of the node's `needs`, by node id. `log` takes one line of output, from any thread.
    `sockets` is a private directory with a short path, for the machines that the work starts; it is removed afterwards.
    """

    directory: Path
    parents: Mapping[str, Path]
    log: Callable[[str], None]
    sockets: Sockets
    session: BuildSession | None = None

    @property
    def tree(self) -> ProjectTree:
        """The project. Only the steps of a file use it, and they have a session."""
        assert self.session is not None, "tools are built without a project, and copy nothing of one"
        return self.session.tree
