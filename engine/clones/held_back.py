"""Files that `apply` leaves alone unless they are named: what this host, its editors or its CI run later on their own.

An agent may change them for good reasons. Nobody should take such a change over among fifty others without a look. Nor
one of `.gitignore`: what it ignores no more goes into the copy. What git on this host obeys in one repository in
particular (`engine.workspaces.run_later`) comes in addition.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_CI, _GIT, _EDITOR = "CI runs it", "git on this host obeys it", "editors on this host run what it says"
_AGENT, _SHELL, _SANDBOX = (
    "agents on this host obey it",
    "programs on this host read it",
    "it decides about the sandbox",
)
_COPIED = "it decides what of this host goes into the copy"
# Directories with all that is in them, and names, at any depth. Folded, as some file systems do.
_DIRECTORIES = {
    **dict.fromkeys((".github/workflows", ".github/actions", ".circleci", ".gitlab", ".forgejo", ".gitea"), _CI),
    **dict.fromkeys((".woodpecker", ".buildkite"), _CI),
    **dict.fromkeys((".husky", ".githooks"), _GIT),
    **dict.fromkeys((".vscode", ".idea", ".devcontainer", ".zed"), _EDITOR),
    **dict.fromkeys((".cursor", ".claude", ".codex", ".gemini", ".opencode"), _AGENT),
    ".cargo": _SHELL,
}
_NAMES = {
    ".gitignore": _COPIED,
    **dict.fromkeys((".gitlab-ci.yml", ".travis.yml", ".drone.yml", "azure-pipelines.yml", "jenkinsfile"), _CI),
    **dict.fromkeys(("bitbucket-pipelines.yml", ".woodpecker.yml", ".woodpecker.yaml"), _CI),
    **dict.fromkeys((".pre-commit-config.yaml", ".gitattributes", ".gitmodules", ".gitconfig"), _GIT),
    **dict.fromkeys(("lefthook.yml", "lefthook.yaml", ".lefthook.yml", ".lefthook.yaml"), _GIT),
    **dict.fromkeys((".mcp.json", "opencode.json", "opencode.jsonc"), _AGENT),
    **dict.fromkeys((".envrc", ".env", ".mise.toml", "mise.toml", ".yarnrc.yml", ".npmrc", ".nvim.lua"), _SHELL),
    **dict.fromkeys(
        ("sandboxfile.yaml", "sandboxfile.yml", "sandboxfile.local.yaml", "sandboxfile.local.yml"), _SANDBOX
    ),
}
_SUFFIXES = {".code-workspace": _EDITOR}


def held_back(path: str, named: Iterable[str] = (), further: Iterable[str] = ()) -> str | None:
    """Why the file is not applied; None where it is.

    It is where it was `named`, or a directory that itself lies in such a place. `further` are paths that git on this
    host obeys.
    """
    own = tuple(further)
    why = _why(path, own)
    if why is None or path in (names := tuple(named)):
        return None
    if any(path.startswith(f"{one}/") and _why(one, own) is not None for one in names):
        return None
    return why


def is_repository(name: str) -> bool:
    """Whether some file system takes the name for git's `.git`, as git itself looks at names."""
    return folded(name).partition(":")[0].rstrip(". ") in (".git", "git~1")


def folded(name: str) -> str:
    """The name as file systems that fold case and composed letters, and ignore letters that nobody sees, take it."""
    seen = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    return unicodedata.normalize("NFKC", seen).casefold()


def _why(path: str, further: tuple[str, ...]) -> str | None:
    if any(path == one or path.startswith(f"{one}/") for one in further):
        return _GIT
    whole = f"/{folded(path)}/"
    for directory, why in _DIRECTORIES.items():
        if f"/{directory}/" in whole:
            return why
    name = whole.removesuffix("/").rpartition("/")[2]
    found = _NAMES.get(name) or next((why for end, why in _SUFFIXES.items() if name.endswith(end)), None)
    return found
