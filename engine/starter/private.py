"""Files of a project that an agent does not need to see."""

from __future__ import annotations

import re

from engine.starter.project_tree import Project
from engine.starter.proposals import Findings

_NAMES = ("id_rsa", "id_ed25519", "id_ecdsa", ".netrc", ".pypirc", ".npmrc", "credentials.json")
_EXAMPLES = re.compile(r"\.env\.(example|sample|template|dist|defaults?)")


def look(project: Project, found: Findings) -> None:
    """Add names and patterns for `hide` to the findings."""
    environments = [name for name in project.names if name == ".env" or name.startswith(".env.")]
    found.hide += sorted(name for name in environments if not _EXAMPLES.match(name) and name.isprintable())[:10]
    for suffix in (".pem", ".key", ".p12"):
        if any(name.endswith(suffix) for name in project.names):
            found.hide.append(f"*{suffix}")
    found.hide += [name for name in _NAMES if name in project.names]
