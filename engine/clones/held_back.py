"""Files that `apply` leaves alone unless they are named: what this host, its editors or its CI run later on their own.

An agent may change them for good reasons. Nobody should take such a change over among fifty others without a look.
"""

from __future__ import annotations

from collections.abc import Iterable

# Directories with all that is in them, and names at any depth. Lower case: file systems may fold it.
_DIRECTORIES = {
    ".github/workflows": "CI runs it",
    ".github/actions": "CI runs it",
    ".circleci": "CI runs it",
    ".gitlab": "CI runs it",
    ".husky": "git runs it",
    ".githooks": "git runs it",
    ".vscode": "editors run what it says",
    ".idea": "editors run what it says",
    ".devcontainer": "editors run what it says",
    ".cursor": "agents on this host read it",
    ".claude": "agents on this host read it",
    ".codex": "agents on this host read it",
    ".gemini": "agents on this host read it",
}
_NAMES = {
    ".gitlab-ci.yml": "CI runs it",
    ".travis.yml": "CI runs it",
    ".drone.yml": "CI runs it",
    "azure-pipelines.yml": "CI runs it",
    "bitbucket-pipelines.yml": "CI runs it",
    "jenkinsfile": "CI runs it",
    ".pre-commit-config.yaml": "git runs what it says",
    "lefthook.yml": "git runs what it says",
    ".gitattributes": "git runs filters by it",
    ".gitmodules": "git fetches by it",
    ".envrc": "shells run it",
    ".mcp.json": "agents on this host start what it says",
    "sandboxfile.yaml": "it decides what a sandbox may do",
    "sandboxfile.local.yaml": "it decides what a sandbox may do",
}


def held_back(path: str, named: Iterable[str] = ()) -> str | None:
    """Why the file is not applied; None where it is, or where it, or a directory it is in, was named."""
    if any(path == one or path.startswith(f"{one}/") for one in named):
        return None
    lower = path.lower()
    for directory, why in _DIRECTORIES.items():
        if f"/{lower}".find(f"/{directory}/") >= 0:
            return why
    return _NAMES.get(lower.rpartition("/")[2])
