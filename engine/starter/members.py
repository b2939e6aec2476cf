"""The root of a monorepo: a directory whose subdirectories are the projects."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import Any

from engine.starter import python, stacks
from engine.starter.project_tree import Project
from engine.starter.proposals import Findings, Proposal

MOST_MEMBERS = 20
_MOVED = "sudo mv node_modules /"


def look(project: Project, found: Findings, looks: Iterable[Callable[[Project, Findings], None]]) -> None:
    """Propose what the projects in the subdirectories of `project` need, each with `looks`."""
    directories = _members(project)
    for directory in directories[:MOST_MEMBERS]:
        own = Findings()
        member = Project(project.root / directory, own.note)
        for each in looks:
            each(member, own)
        for proposal in own.proposals:
            _take(found, proposal, directory)
        for note in own.notes:
            found.note(f"{directory}: {note}")
    if len(directories) > MOST_MEMBERS:
        found.note(f"there are {len(directories)} projects below, and {MOST_MEMBERS} were looked at")


def _members(project: Project) -> list[str]:
    marks = ["package.json", *python.MARKS, "Cargo.toml", "go.mod", "Gemfile"]
    marks += [mark for stack in stacks.STACKS for mark in stack.marks if not mark.startswith("*")]
    found = [path for mark in marks for depth in ("*", "*/*") for path in project.matching(f"{depth}/{mark}")]
    parents = sorted({str(PurePosixPath(path).parent) for path in found if path.isprintable()})
    inner = {"node_modules", "vendor", "target", "build", "dist"}
    kept = [path for path in parents if not inner & set(path.split("/"))]
    # A directory below another project is a part of that one.
    return [path for path in kept if not any(path.startswith(f"{other}/") for other in kept)]


def _take(found: Findings, proposal: Proposal, directory: str) -> None:
    if proposal.section != "setup":
        found.propose(proposal.path, proposal.value, f"{directory}: {proposal.remark}", active=proposal.active)
        return
    value: Any = proposal.value
    active, remark = proposal.active, f"{directory}: {proposal.remark}"
    if isinstance(value, dict):
        value = dict(value, run=f"cd {shlex.quote(directory)} && {value['run']}")
        value["inputs"] = [f"{directory}/{name}" for name in value.get("inputs", ())]
        first = not any(_MOVED in str(other.value) for other in found.proposals if other.active)
        if _MOVED in value["run"] and not first:
            active, remark = False, f"{directory}: another project's packages are in /node_modules already"
    found.propose("setup", value, remark, active=active)
