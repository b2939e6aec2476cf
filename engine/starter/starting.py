"""One run of `sandbox init`, without the talking: where the file goes, what it could say, and its text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.agents import list_agents
from engine.errors import EngineError
from engine.starter.assembly import assemble
from engine.starter.converting import convert, find_foreign, project_of
from engine.starter.looking import look_at
from engine.starter.proposals import Findings, LeftOut
from engine.starter.templates import DEFAULT, FILE, REFERENCE, read_template
from sandboxfile.load import FILE_NAMES
from sandboxfile.positions import render_path

PARTS = ("packages", "setup", "services")
_INCLUDE = ("services", "include")


@dataclass
class Start:
    """What is known before anybody is asked: the file's path, and what was found."""

    path: Path
    found: Findings
    source: Path | None = None  # the file that is converted

    @property
    def suggestion(self) -> str:
        """The template that the findings suggest."""
        return self.found.agent or DEFAULT


@dataclass(frozen=True)
class Choices:
    """What the user wants: a template, the mode of the mount, and which proposals."""

    template: str
    mount: str = "rw"
    parts: Mapping[str, bool] = field(default_factory=dict)


def look(output: Path | None, source: Path | None, template: str | None = None) -> Start:
    """Look at the project, or convert `source`. Raises EngineError (exit code 2), SandboxfileError for a bad source."""
    if source is not None:
        source = find_foreign(source)
        path = _file(project_of(source) if output is None else output)
        return Start(path, convert(source, path), source)
    path = _file(Path() if output is None else output)
    if template == REFERENCE:  # it shows everything: nothing is to be put into it
        return Start(path, Findings())
    return Start(path, look_at(path.absolute().parent, {agent.name: agent.marks for agent in list_agents()}))


def existing(path: Path) -> Path | None:
    """The Sandboxfile that there is already in the place of the new one."""
    candidates = [path, *(path.with_name(name) for name in FILE_NAMES if path.name in FILE_NAMES)]
    return next((candidate for candidate in candidates if candidate.exists() or candidate.is_symlink()), None)


def write(start: Start, choices: Choices) -> str:
    """The new file's text, which is valid. What could not be said is added to what the findings leave out."""
    found = start.found.without(part for part, wanted in choices.parts.items() if not wanted)
    result = assemble(read_template(choices.template), found, choices.mount, start.path)
    for proposal, problem in result.refused:
        if start.source is not None:
            start.found.left_out.append(LeftOut(f"{proposal.remark}: {render_path(proposal.path)}", problem.message))
        elif proposal.path == _INCLUDE:
            way = f"`sandbox init --from {proposal.value}` converts what can be"
            start.found.note(f"{proposal.value} was not taken over: {problem.message}; {way}")
            start.found = start.found.without(["services"])  # the endpoints for its images, too
            return write(start, choices)
        else:
            start.found.note(f"{proposal.remark} would not be valid: {problem.message}")
        start.found.proposals.remove(proposal)
    start.found.proposals = [proposal for proposal in start.found.proposals if proposal in found.proposals]
    start.found.left_out.sort(key=lambda item: item.position or (0, 0))
    return result.text


def _file(path: Path) -> Path:
    """The file that a PATH means. Raises EngineError (exit code 2) where there is no directory for it."""
    if path.is_dir():
        return path / FILE
    if path.suffix not in (".yaml", ".yml"):
        raise EngineError(f"{path} is no directory", hint=f"make it first: mkdir -p {path}", exit_code=2)
    if not path.parent.is_dir():
        raise EngineError(f"{path.parent} is no directory", hint=f"make it first: mkdir -p {path.parent}", exit_code=2)
    return path
