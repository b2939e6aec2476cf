"""Looking at a project for what its Sandboxfile may need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.starter import containers, languages, node, private, python
from engine.starter.project_tree import Project
from engine.starter.proposals import Findings

SHELL = "shell"


def look_at(root: Path, marks: Mapping[str, Sequence[str]]) -> Findings:
    """Proposals for the project in `root`. `marks` maps each agent to the files that show that it is used."""
    found = Findings()
    project = Project(root, found.note)
    for look in (node.look, python.look, languages.look, containers.look, private.look):
        look(project, found)
    used = [name for name, files in marks.items() if any(project.has(file) for file in files)]
    found.agent = used[0] if len(used) == 1 else None
    return found
