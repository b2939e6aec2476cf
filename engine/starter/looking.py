"""Looking at a project for what its Sandboxfile may need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.starter import containers, languages, members, node, private, python, stacks
from engine.starter.assembly import TARGET
from engine.starter.project_tree import Project
from engine.starter.proposals import Findings
from engine.workspaces.git_links import SUBMODULE, git_link

LANGUAGES = (node.look, python.look, languages.look, stacks.look)


def look_at(root: Path, marks: Mapping[str, Sequence[str]]) -> Findings:
    """Proposals for the project in `root`. `marks` maps each agent to the files that show that it is used."""
    found = Findings()
    project = Project(root, found.note)
    look_for_languages(project, found)
    members.look(project, found, LANGUAGES)
    containers.look(project, found)
    private.look(project, found)
    _look_for_git(project, found)
    used = [name for name, files in marks.items() if any(project.has(file) for file in files)]
    found.agent = used[0] if len(used) == 1 else None
    return found


def look_for_languages(project: Project, found: Findings) -> None:
    """Propose what the languages of the project need."""
    for look in LANGUAGES:
        look(project, found)


def _look_for_git(project: Project, found: Findings) -> None:
    """Offer the mounts without which git does not work in a worktree or a submodule."""
    link = git_link(Path(project.root).absolute(), TARGET) if ".git" in project.names else None
    if link is None:
        return
    instead = "instead of the mount above" if link.kind == SUBMODULE else "beside the mount above"
    for source, target in link.mounts:
        if ":" not in source + target:
            found.propose("mounts", f"{source}:{target}", f"for git; {instead}", active=False)
    found.note(
        f"this is {link.kind} of git: its repository is {link.repository}, and git does not work in the machine without"
        " it; the mounts in the file, commented out, would let the machine write there"
    )
