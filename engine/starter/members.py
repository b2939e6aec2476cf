"""Subdirectories that are projects of their own, as in a monorepo or beside a `package.json` that has only tools."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import Any

from engine.starter import python, stacks
from engine.starter.project_tree import Project, table
from engine.starter.proposals import Findings, Proposal

MOST_MEMBERS = 20
_MOVED = "sudo mv node_modules /"
_NO_PROJECTS = {"node_modules", "vendor", "target", "build", "dist"}
# What is below these is for who works on just that; it is named, and not installed.
_BESIDE = {"doc", "docs", "example", "examples", "test", "tests", "fixtures", "testdata", "e2e", "benchmarks"}
_GRADLE = ("build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts")


def look(project: Project, found: Findings, looks: Iterable[Callable[[Project, Findings], None]]) -> None:
    """Propose what the projects in the subdirectories of `project` need, each with `looks`.

    `found` has what the root needs. What the root installs itself, as the members of its workspace, is left to it.
    """
    directories = _members(project, found)
    if found.proposals:
        _note_beside(found, [path for path in directories if _BESIDE & set(path.split("/"))])
        directories = [path for path in directories if not _BESIDE & set(path.split("/"))]
    tools = [proposal for proposal in found.proposals if _moves(proposal)] if _has_only_tools(project) else []
    for directory in directories[:MOST_MEMBERS]:
        own = Findings()
        member = Project(project.root / directory, own.note)
        for each in looks:
            each(member, own)
        if any(map(_moves, own.proposals)):
            _give_way(found, tools, directory)
        for proposal in own.proposals:
            _take(found, proposal, directory)
        found.local += [f"{directory}/{path}" for path in own.local]
        for note in own.notes:
            found.note(f"{directory}: {note}")
    if len(directories) > MOST_MEMBERS:
        found.note(f"there are {len(directories)} projects below, and {MOST_MEMBERS} were looked at")


def _members(project: Project, found: Findings) -> list[str]:
    taken = _gathered(project)
    marks = ["package.json", *python.MARKS, "Cargo.toml", "go.mod", "Gemfile"]
    marks += [mark for stack in stacks.STACKS for mark in stack.marks if not mark.startswith("*")]
    files = [path for mark in marks for depth in ("*", "*/*") for path in project.matching(f"{depth}/{mark}")]
    steps = [proposal.value for proposal in found.proposals if proposal.section == "setup"]
    inputs = [name for step in steps if isinstance(step, dict) for name in step.get("inputs", ())]
    own = [path for path in files if PurePosixPath(path).name not in taken and not _is_below(path, inputs)]
    parents = sorted({str(PurePosixPath(path).parent) for path in own if path.isprintable()})
    kept = [path for path in parents if not _NO_PROJECTS & set(path.split("/"))]
    # A directory below another project is a part of that one.
    return [path for path in kept if not any(path.startswith(f"{other}/") for other in kept)]


def _gathered(project: Project) -> set[str]:
    """The marks of projects that belong to the one in the root, as members of its workspace or modules of its build."""
    package = project.json("package.json")
    node = bool(package.get("workspaces")) or project.first("pnpm-workspace.yaml", "lerna.json") is not None
    gathers = {
        ("package.json",): node and bool(package),
        ("Cargo.toml",): "workspace" in project.toml("Cargo.toml"),
        ("pyproject.toml", "setup.py"): bool(table(project.toml("pyproject.toml"), "tool", "uv", "workspace")),
        ("go.mod",): project.has("go.work") and project.has("go.mod"),
        ("pom.xml",): "<module>" in (project.text("pom.xml") or ""),
        _GRADLE: project.first(*_GRADLE) is not None,
    }
    return {mark for marks, gathered in gathers.items() if gathered for mark in marks}


def _is_below(path: str, inputs: Iterable[str]) -> bool:
    return any(path == name or path.startswith(f"{name}/") for name in inputs)


def _note_beside(found: Findings, directories: list[str]) -> None:
    if directories:
        more = f" and {len(directories) - 5} more" if len(directories) > 5 else ""
        found.note(
            f"setup does not install what these need: {', '.join(directories[:5])}{more};"
            f" `sandbox init --print {shlex.quote(directories[0])}` shows it for one"
        )


def _has_only_tools(project: Project) -> bool:
    """Whether the root's packages of npm are for the developer only, such as a formatter."""
    package = project.json("package.json")
    return bool(package) and not package.get("dependencies") and not package.get("workspaces")


def _moves(proposal: Proposal) -> bool:
    return proposal.active and proposal.section == "setup" and _MOVED in str(proposal.value)


def _give_way(found: Findings, tools: Iterable[Proposal], directory: str) -> None:
    """Leave /node_modules, of which there is one, to the packages in `directory`, and not to the tools of the root."""
    for index, proposal in enumerate(found.proposals):
        if proposal in tools:
            remark = f"only tools, and /node_modules is for {directory}"
            found.proposals[index] = dataclasses.replace(proposal, active=False, remark=remark)
            found.note(f"setup does not install the tools of the root's package.json, but the packages of {directory}")


def _take(found: Findings, proposal: Proposal, directory: str) -> None:
    if proposal.section != "setup":
        found.take(dataclasses.replace(proposal, remark=f"{directory}: {proposal.remark}"))
        return
    value: Any = proposal.value
    active, remark = proposal.active, f"{directory}: {proposal.remark}"
    if isinstance(value, dict):
        value = dict(value, run=f"cd {shlex.quote(directory)} && {value['run']}")
        value["inputs"] = [f"{directory}/{name}" for name in value.get("inputs", ())]
        if _MOVED in value["run"] and any(map(_moves, found.proposals)):
            active, remark = False, f"{directory}: another project's packages are in /node_modules already"
            found.note(f"setup does not install the packages of {directory}: others are in /node_modules already")
    found.propose("setup", value, remark, active=active)
