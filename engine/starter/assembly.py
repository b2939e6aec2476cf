"""From a template and proposals to the text of a valid Sandboxfile."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.starter.draft import HAND, Draft, remarked
from engine.starter.proposals import Findings, Proposal
from sandboxfile import Inputs, SandboxfileError, parse
from sandboxfile.diagnostics import Diagnostic

TARGET = "/workspace"
MODES = ("rw", "ro", "clone", "none")

_PROSE = {
    "several": "The directories of this host that the machine sees. The first one is the working directory.",
    "rw": "The only directory of this host that the machine sees, live. The first one is the working directory.",
    "ro": "The only directory of this host that the machine sees, live. It cannot write there.",
    "clone": "The only directory of this host that the machine sees: a private copy of it.",
    "none": "No directory of this host is in the machine.",
}


@dataclass(frozen=True)
class Assembled:
    """The text of a file, and the proposals that were left out, each with the problem that it would have made."""

    text: str
    refused: tuple[tuple[Proposal, Diagnostic], ...]


def assemble(template: str, found: Findings, mode: str, path: Path) -> Assembled:
    """The text of the file for `path`.

    Proposals come from files that nobody has checked. Those with which the result would not be valid are left out.
    """
    proposals = found.proposals
    text = _write(template, found, proposals, mode)
    if not problems_of(text, path, found.variables) or problems_of(_write(template, found, (), mode), path):
        return Assembled(text, ())  # valid; or not valid even without proposals, as with a broken local layer
    kept: list[Proposal] = []
    refused: list[tuple[Proposal, Diagnostic]] = []
    for proposal in proposals:
        problems = problems_of(_write(template, found, [*kept, proposal], mode), path, found.variables)
        if problems:
            refused.append((proposal, problems[0]))
        else:
            kept.append(proposal)
    return Assembled(_write(template, found, kept, mode), tuple(refused))


def problems_of(text: str, path: Path, variables: Iterable[str] = ()) -> tuple[Diagnostic, ...]:
    """All problems of a file with this text at `path`, none when it is valid.

    `variables` are taken as set: only their values are missing.
    """
    try:
        parse(text, path, Inputs(environment={**dict.fromkeys(variables, "1"), **os.environ}))
    except SandboxfileError as error:
        return error.diagnostics
    return ()


def _write(template: str, found: Findings, proposals: Sequence[Proposal], mode: str) -> str:
    draft = Draft.of(template)
    mounts = [proposal for proposal in proposals if proposal.section == "mounts" and proposal.active]
    suggested = [
        line
        for proposal in proposals
        if proposal.section == "mounts" and not proposal.active
        for line in remarked([f"  #- {HAND.flow(proposal.value)}"], proposal.remark)
    ]
    if mounts:
        draft.replace("mounts", mounts, _prose_of(mounts), suggested)
    elif mode == "none":
        draft.replace("mounts", [], _PROSE[mode])
    elif mode != "rw" or found.hide or found.local or suggested:
        # The long form has a place for `hide`, which is only suggested: the user has to decide.
        long: dict[str, Any] = {"source": ".", "target": TARGET} | ({} if mode == "rw" else {"mode": mode})
        long |= {"local": list(found.local)} if found.local else {}
        short = f".:{TARGET}" if mode == "rw" else f".:{TARGET}:{mode}"
        mount = Proposal(("mounts",), long if found.hide or found.local else short, "")
        draft.replace("mounts", [mount], _PROSE[mode], [*_options(found), *suggested])
    draft.add(proposal for proposal in proposals if proposal.section != "mounts")
    return draft.text()


def _prose_of(mounts: Sequence[Proposal]) -> str:
    return _PROSE["several" if len(mounts) > 1 else mounts[0].value.get("mode", "rw")]


def _options(found: Findings) -> list[str]:
    """Lines of a mount that are commented out."""
    if not found.hide:
        return []
    return remarked([f"    #hide: {HAND.flow(found.hide)}"], "what an agent has no need to see")
