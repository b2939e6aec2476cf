"""What this host runs, or obeys, when the user works in a directory: what a guest that writes there must not change.

git runs its hooks, and programs that its configuration names (core.fsmonitor, filters, aliases) at a mere `git status`
of a shell's prompt. Editors run tasks, and agents have hooks and permissions in their settings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from engine.workspaces.git_configuration import entries, hooks, named_in, read_beginning

# Of a repository's directory: git reads the configuration of another directory where `commondir` says so.
_CONFIGURATION = ("config", "config.worktree")
_GIT = (*_CONFIGURATION, "commondir")
_OTHERS = (
    ".vscode/tasks.json", ".vscode/mcp.json",
    ".claude/settings.json", ".claude/settings.local.json", ".claude/hooks", ".claude/skills", ".claude/commands",
    ".mcp.json", ".codex/config.toml", ".gemini/settings.json", ".cursor/mcp.json", ".cursor/hooks.json",
    "opencode.json", "opencode.jsonc", ".opencode/plugin", ".opencode/plugins", ".opencode/tool", ".opencode/tools",
)  # fmt: skip
MOST_REPOSITORIES = 100  # of submodules and worktrees
_GITDIR = re.compile(r"gitdir: ([^\n\r\0]+)\r?\n?")


def run_later(directory: Path) -> Iterator[Path]:
    """The files and directories of a project in `directory`, whether they exist or not.

    With submodules and worktrees, as they are now: one that the guest makes later is not among them.
    """
    yield from (directory / name for name in _OTHERS)
    yield from _of_user()
    # Where `.git` is none, git takes the directory itself for a repository that has HEAD, objects and refs. The guest
    # can remove `.git/HEAD`, which git has to write; so it must not make the other one.
    yield directory / "HEAD"
    if (directory / "HEAD").exists():
        yield from _of_repository(directory, directory)
    git = directory / ".git"
    if (said := read_beginning(git)) is None:
        yield from _of_repository(git, directory)
    else:
        # A worktree, or a submodule: who changes this file chooses the repository, and with it hooks of their own.
        yield git
        if match := _GITDIR.fullmatch(said):
            yield from _of_repository(Path(os.path.normpath(directory / match[1])), directory)


def _of_repository(git: Path, top: Path) -> Iterator[Path]:
    """`top` is the directory of its files."""
    yield from _of_git(git, top)
    if said := read_beginning(git / "commondir"):  # of a worktree, whose repository this is
        yield from _of_git(Path(os.path.normpath(git / said.rstrip("\r\n"))), top)
    for count, module in enumerate(_modules(git / "modules")):
        if count >= MOST_REPOSITORIES:
            return
        worktrees = [value for _, key, value in entries(read_beginning(module / "config") or "") if key == "worktree"]
        worktree = Path(os.path.normpath(module / worktrees[-1])) if worktrees else module
        yield worktree / ".git"
        yield from _of_git(module, worktree)
    for known in _directories(git / "worktrees")[:MOST_REPOSITORIES]:
        yield from (known / name for name in ("commondir", "gitdir"))
        worktree = Path(os.path.normpath(known / (read_beginning(known / "gitdir") or "").rstrip("\r\n"))).parent
        yield worktree / ".git"
        yield from _of_git(known, worktree)
        yield from named_in(git / "config", worktree)


def _of_git(git: Path, top: Path) -> Iterator[Path]:
    yield from (git / name for name in _GIT)
    yield from hooks(git / "hooks", top)
    for config in (*(git / name for name in _CONFIGURATION), *_of_user()):
        yield from named_in(config, top)


def _of_user() -> Iterator[Path]:
    """The configuration for all repositories: a relative `core.hooksPath` there means a directory of each of them."""
    yield Path("/etc/gitconfig")
    if home := os.environ.get("HOME"):
        yield Path(home, ".gitconfig")
        yield Path(os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config", "git", "config")


def _modules(directory: Path, depth: int = 0) -> Iterator[Path]:
    """Repositories of submodules, whose names may have slashes, and of those within them."""
    for path in _directories(directory):
        if _is_repository(path):
            yield path
            yield from _modules(path / "modules", depth + 1)
        elif depth < 4:
            yield from _modules(path, depth + 1)


def _is_repository(path: Path) -> bool:
    return all((path / name).exists() for name in ("HEAD", "objects", "refs"))


def _directories(path: Path) -> list[Path]:
    try:
        return sorted(Path(entry) for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
