"""Where definitions of agents are: those that come with the program, and the user's own. Imports nothing slow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from engine import resources
from engine.state.layout import own_agents

FILE = "agent.yaml"


class Place(NamedTuple):
    """Where one definition is. `own`: the user wrote it; `instead`: there is one of this name without it, too."""

    path: Path
    own: bool = False
    instead: bool = False

    @property
    def shown(self) -> str:
        """Its folder, as the user would write it."""
        folder, home = str(self.path.parent), os.environ.get("HOME", "")
        return f"~{folder.removeprefix(home)}" if home.startswith("/") and folder.startswith(f"{home}/") else folder

    @property
    def remark(self) -> str:
        """Whose definition it is, where it is not the one that everybody has; else ""."""
        if not self.own:
            return ""
        return f"yours, {self.shown}" + (", in place of the one that comes with it" if self.instead else "")


def builtin_agents() -> dict[str, Place]:
    """Those that come with the program, sorted. Reads one directory and no file."""
    return {path.parent.name: Place(path) for path in sorted(resources.templates().glob(f"*/{FILE}"))}


def find_agents() -> dict[str, Place]:
    """All, sorted; one of the user has the place of one that comes with the program. Reads two directories."""
    found = builtin_agents()
    for path in own_agents(os.environ).glob(f"*/{FILE}"):
        found[path.parent.name] = Place(path, own=True, instead=path.parent.name in found)
    return dict(sorted(found.items()))
