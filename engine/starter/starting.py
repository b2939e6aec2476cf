"""One run of `sandbox init`, without its questions: the path of the file, the proposals for it, and its text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.agents import list_agents
from engine.errors import EngineError
from engine.files import check_relative
from engine.starter.assembly import assemble
from engine.starter.converting import convert, find_dev_container, find_foreign, is_dev_container, project_of
from engine.starter.looking import look_at
from engine.starter.order import by_weight
from engine.starter.proposals import Findings, LeftOut
from engine.starter.templates import DEFAULT, FILE, REFERENCE, read_template
from engine.starter.together import bring_together
from sandboxfile import SandboxfileError
from sandboxfile.load import FILE_NAMES
from sandboxfile.positions import render_path

PARTS = ("packages", "setup", "services")
_INCLUDE = ("services", "include")


@dataclass
class Start:
    """What is known before the user is asked: the path of the new file, and the findings."""

    path: Path
    found: Findings
    source: Path | None = None  # the file that is converted
    container: Path | None = None  # the project's dev container, which was read without being named

    @property
    def suggestion(self) -> str:
        """The template that the findings suggest."""
        return self.found.agent or DEFAULT


@dataclass(frozen=True)
class Choices:
    """What the user has chosen: a template, the mode of the mount, and for which sections proposals are used."""

    template: str
    mount: str = "rw"
    parts: Mapping[str, bool] = field(default_factory=dict)


def look(output: Path | None, source: Path | None, template: str | None = None) -> Start:
    """Look at the project, or convert `source`.

    Raises EngineError (exit code 2) for a path that cannot be used, and SandboxfileError for a bad source.
    """
    if source is not None:
        source = find_foreign(source)
        path = _file(project_of(source) if output is None else output)
        found = convert(source, path)
        root = path.absolute().parent
        if is_dev_container(source) and project_of(source).resolve() == root.resolve():
            found = bring_together(found, _shown_by(root))
        return Start(path, found, source)
    path = _file(Path() if output is None else output)
    if template == REFERENCE:  # this template shows every setting, so nothing is added to it
        return Start(path, Findings())
    return _with_container(path)


def _with_container(path: Path) -> Start:
    """What the project shows, with what its dev container says, if there is one that can be read."""
    root = path.absolute().parent
    found = _shown_by(root)
    try:
        container = find_dev_container(root)
        if container is not None:
            return Start(path, bring_together(convert(container, path), found), container=container)
    except (EngineError, SandboxfileError) as error:
        hint = f"; {error.hint}" if getattr(error, "hint", None) else ""
        found.note(f"its dev container was not looked at: {error.brief}{hint}")
    return Start(path, found)


def _shown_by(root: Path) -> Findings:
    return look_at(root, {agent.name: agent.marks for agent in list_agents()})


def existing(path: Path) -> Path | None:
    """The Sandboxfile that is already there in the place of the new one; None when there is none."""
    candidates = [path, *(path.with_name(name) for name in FILE_NAMES if path.name in FILE_NAMES)]
    return next((candidate for candidate in candidates if candidate.exists() or candidate.is_symlink()), None)


def write(start: Start, choices: Choices) -> str:
    """The text of the new file, which is valid.

    Proposals that would make it invalid are removed from the findings of `start`, and noted there.
    """
    found = start.found.without(part for part, chosen in choices.parts.items() if not chosen)
    result = assemble(read_template(choices.template), found, choices.mount, start.path)
    for proposal, problem in result.refused:
        if start.source is not None:
            start.found.left_out.append(LeftOut(f"{proposal.remark}: {render_path(proposal.path)}", problem.message))
        elif proposal.path == _INCLUDE:
            files = [proposal.value] if isinstance(proposal.value, str) else proposal.value
            way = f"`sandbox init --from {files[0]}` converts what can be"
            start.found.note(f"{' and '.join(files)} was not taken over: {problem.message}; {way}")
            start.found = start.found.without(["services"])  # also removes the endpoints for their images
            return write(start, choices)
        else:
            start.found.note(f"{proposal.remark} would not be valid: {problem.message}")
        start.found.proposals.remove(proposal)
    start.found.proposals = [proposal for proposal in start.found.proposals if proposal in found.proposals]
    start.found.left_out.sort(key=by_weight)
    return result.text


def _file(path: Path) -> Path:
    """The path of the file that PATH means. Raises EngineError (exit code 2) when its directory does not exist."""
    if path.is_dir():
        return path / FILE
    check_relative(path)
    if path.suffix not in (".yaml", ".yml"):
        raise EngineError(f"{path} is no directory", hint=f"make it first: mkdir -p {path}", exit_code=2)
    if not path.parent.is_dir():
        raise EngineError(f"{path.parent} is no directory", hint=f"make it first: mkdir -p {path.parent}", exit_code=2)
    return path
