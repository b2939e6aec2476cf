"""Projects that are made up, and the starter files for them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.agents import list_agents
from engine.starter.assembly import assemble
from engine.starter.looking import look_at
from engine.starter.proposals import Findings
from engine.starter.templates import read_template
from sandboxfile import Inputs, Loaded, load

MARKS = {agent.name: agent.marks for agent in list_agents()}


@dataclass(frozen=True)
class Found:
    """`files` of a project (JSON where it is no text), and what is to be proposed for it."""

    files: dict[str, Any]
    packages: list[str] = field(default_factory=list)
    setup: list[Any] = field(default_factory=list)
    left_out: list[Any] = field(default_factory=list)  # of setup
    endpoints: list[str] = field(default_factory=list)
    services: dict[str, Any] = field(default_factory=dict)
    hide: list[str] = field(default_factory=list)
    agent: str | None = None
    noted: list[str] = field(default_factory=list)

    def write(self, root: Path) -> None:
        for name, content in self.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content))


def look(root: Path) -> Findings:
    return look_at(root, MARKS)


def starter(root: Path, found: Findings, template: str = "shell", mode: str = "rw") -> tuple[Loaded, list[str]]:
    """The file, written and loaded, and what is wrong with proposals that it does not say."""
    path = root / "Sandboxfile.yaml"
    result = assemble(read_template(template), found, mode, path)
    path.write_text(result.text)
    inputs = Inputs(environment=dict.fromkeys(found.variables, "1"))
    return load(path, inputs), [f"{proposal.value}: {problem.message}" for proposal, problem in result.refused]
