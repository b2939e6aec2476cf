"""What a dev container says and what its project shows, as proposals for one file.

Plain `init` and `init --from devcontainer.json` see the same: the project's tools, and the settings of its container.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from engine.starter.proposals import LISTS, Findings, Proposal

# Commands that do nothing but install what the project declares. A step that was made for the project knows better
# where the result may lie: a live mount hides what set-up puts below it.
_INSTALLS = {
    "node": r"(?:npm (?:ci|i|install)|yarn(?: install)?|pnpm (?:i|install)|bun (?:i|install))",
    "python": r"(?:(?:python3? -m )?pip3? install (?:--user )?-r (?P<file>\S+)"
    r"|uv sync|poetry install|pipenv (?:install|sync))",
    "ruby": r"bundle install",
    "php": r"composer install",
    "elixir": r"mix deps\.get",
    "go": r"go mod download",
    "rust": r"cargo (?:fetch|build)",
}
_PROGRAMS = {
    "node": r"\b(?:npm|yarn|pnpm|bun)\b",
    "python": r"\b(?:pip3?|uv|poetry|pipenv)\b",
    "ruby": r"\bbundle\b",
    "php": r"\bcomposer\b",
    "elixir": r"\bmix\b",
    "go": r"\bgo\b",
    "rust": r"\bcargo\b",
}
_OPTIONS = r"(?: --?[a-z][a-z-]*)*"
_PART = re.compile(r"""(?:[^"'&]|(?<!&)&(?!&)|"[^"]*"|'[^']*')+""")  # what `&&` separates
_MOVES = re.compile(r"\s*(?:cd|pushd)\b")  # what follows installs something else


def bring_together(container: Findings, project: Findings) -> Findings:
    """The findings of the dev container with those of the project, whose steps come first.

    The container decides where both have a value. Its services replace those of the project.
    """
    has_services = any(proposal.section == "services" for proposal in container.proposals)
    shown = project.without(["services"] if has_services else [])
    steps = [proposal for proposal in shown.proposals if proposal.section == "setup"]
    own = [kept for proposal in container.proposals if (kept := _without_repeated(proposal, steps)) is not None]
    taken = {proposal.path for proposal in own if proposal.section not in LISTS}
    mounted = any(proposal.section == "mounts" for proposal in own)
    found = Findings(
        notes=[*container.notes, *(note for note in shown.notes if note not in container.notes)],
        left_out=container.left_out,
        agent=container.agent or shown.agent,
        hide=shown.hide,
        local=shown.local,
        variables=container.variables | shown.variables,
        mount=container.mount,
    )
    further = [proposal for proposal in shown.proposals if proposal.path not in taken]
    if mounted:  # the mount of the project goes first, and it is the container's
        further = [proposal for proposal in further if proposal.section != "mounts" or not proposal.active]
    for proposal in [*steps, *own, *further]:
        found.take(proposal)
    return found


def _without_repeated(proposal: Proposal, steps: list[Proposal]) -> Proposal | None:
    """The proposal without those commands that only install what an active step of the project installs.

    None when nothing is left of it.
    """
    if proposal.section != "setup":
        return proposal
    command = _command(proposal.value)
    parts = _PART.findall(command)
    if "&&".join(parts) != command:  # a quotation mark without its other one
        return proposal
    moved = next((index for index, part in enumerate(parts) if _MOVES.match(part)), len(parts))
    kept = [part for part in parts[:moved] if not _is_repeated(part.strip(), steps)] + parts[moved:]
    if len(kept) == len(parts):
        return proposal
    rest = " && ".join(part.strip() for part in kept)
    value = dict(proposal.value, run=rest) if isinstance(proposal.value, dict) else rest
    return dataclasses.replace(proposal, value=value) if rest else None


def _is_repeated(command: str, steps: list[Proposal]) -> bool:
    for kind, install in _INSTALLS.items():
        if match := re.fullmatch(rf"{install}{_OPTIONS}", command):
            file = match.groupdict().get("file") or ""
            return any(
                step.active and re.search(_PROGRAMS[kind], _command(step.value)) and _reads(step.value, file)
                for step in steps
            )
    return False


def _reads(step: Any, file: str) -> bool:
    return not file or file.removeprefix("./") in (step.get("inputs", ()) if isinstance(step, dict) else ())


def _command(step: Any) -> str:
    return str(step.get("run", "")) if isinstance(step, dict) else str(step)
