"""Files of a project that an agent does not need to see."""

from __future__ import annotations

import os
import re

from engine.clones.git import NoGit, run_git
from engine.errors import EngineError
from engine.starter.project_tree import Project
from engine.starter.proposals import Findings

_NAMES = ("id_rsa", "id_ed25519", "id_ecdsa", ".netrc", ".pypirc", ".npmrc", "credentials.json")
_EXAMPLES = re.compile(r"\.env\.(example|sample|template|dist|defaults?)")


_SUFFIXES = (".pem", ".key", ".p12")
_KEYS = ("config/master.key", "config/credentials/*.key")  # of Rails
_BELOW = (".env", ".env.local", ".env.development", ".env.production")
_MOST = 10


def look(project: Project, found: Findings) -> None:
    """Add names and patterns for `hide` to the findings.

    Not what a step of setup reads, and not what git tracks: to git in the machine that would be deleted.
    """
    environments = [name for name in project.names if name == ".env" or name.startswith(".env.")]
    names = sorted(name for name in environments if not _EXAMPLES.match(name) and name.isprintable())[:_MOST]
    by_suffix = {suffix: sorted(n for n in project.names if n.endswith(suffix)) for suffix in _SUFFIXES}
    named = [name for name in _NAMES if name in project.names]
    below = [path for pattern in _KEYS for path in project.matching(pattern)]
    below += [path for depth in ("*", "*/*") for name in _BELOW for path in project.matching(f"{depth}/{name}")]
    below = [path for path in dict.fromkeys(below) if path.isprintable()][: 2 * _MOST]
    everything = [*names, *(name for many in by_suffix.values() for name in many), *named, *below]
    if not everything:
        return
    shown = _read_by_setup(found) | _tracked(project, everything)
    found.hide += [name for name in names if name not in shown]
    for suffix, many in by_suffix.items():
        free = [name for name in many if name not in shown]
        found.hide += [f"*{suffix}"] if free and free == many else [n for n in free if n.isprintable()][:_MOST]
    found.hide += [name for name in [*named, *below] if name not in shown]


def _read_by_setup(found: Findings) -> set[str]:
    steps = [proposal.value for proposal in found.proposals if proposal.section == "setup"]
    return {name for step in steps if isinstance(step, dict) for name in step.get("inputs", ())}


def _tracked(project: Project, names: list[str]) -> set[str]:
    """Those of `names` that git tracks; none where there is no git, or no repository that it reads."""
    if ".git" not in project.names:
        return set()
    try:
        listed = run_git(["--literal-pathspecs", "ls-files", "-z", "--", *names[:1000]], project.root).stdout
    except (NoGit, EngineError):
        return set()
    return {os.fsdecode(path) for path in listed.split(b"\0") if path}
