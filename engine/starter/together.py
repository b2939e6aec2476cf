"""What a dev container says and what its project shows, as proposals for one file.

Plain `init` and `init --from devcontainer.json` see the same: the project's tools, and the settings of its container.
"""

from __future__ import annotations

import re
from typing import Any

from engine.starter.proposals import LISTS, Findings, Proposal

# Commands that do nothing but install what the project declares. A step that was made for the project knows better
# where the result may lie: a live mount hides what set-up puts below it.
_INSTALLS = {
    "node": r"(?:npm (?:ci|i|install)|yarn(?: install)?|pnpm (?:i|install)|bun (?:i|install))",
    "python": r"(?:(?:python3? -m )?pip3? install (?:--user )?-r \S+|uv sync|poetry install|pipenv (?:install|sync))",
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


def bring_together(container: Findings, project: Findings) -> Findings:
    """The findings of the dev container with those of the project, whose steps come first.

    The container decides where both have a value. Its services replace those of the project.
    """
    has_services = any(proposal.section == "services" for proposal in container.proposals)
    shown = project.without(["services"] if has_services else [])
    steps = [proposal for proposal in shown.proposals if proposal.section == "setup"]
    own = [proposal for proposal in container.proposals if not _is_repeated(proposal, steps)]
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


def _is_repeated(proposal: Proposal, steps: list[Proposal]) -> bool:
    """Whether a step of the container only installs what an active step of the project installs."""
    if proposal.section != "setup":
        return False
    command = _command(proposal.value).strip()
    for kind, install in _INSTALLS.items():
        if re.fullmatch(rf"{install}{_OPTIONS}", command):
            return any(step.active and re.search(_PROGRAMS[kind], _command(step.value)) for step in steps)
    return False


def _command(step: Any) -> str:
    return str(step.get("run", "")) if isinstance(step, dict) else str(step)
