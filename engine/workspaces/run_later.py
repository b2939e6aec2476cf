"""What this host runs, or obeys, when the user works in a directory: what a guest that writes there must not change.

git runs its hooks, and programs that its configuration names (core.fsmonitor, filters, aliases) at a mere `git status`
of a shell's prompt. Editors run tasks, and agents have hooks and permissions in their settings.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

# Of a repository's directory: git reads the configuration of another directory where `commondir` says so.
_GIT = ("config", "config.worktree", "commondir", "hooks")
_OTHERS = (
    ".vscode/tasks.json",
    ".claude/settings.json", ".claude/settings.local.json", ".mcp.json", ".codex/config.toml", ".gemini/settings.json",
    ".cursor/mcp.json", ".cursor/hooks.json",
)  # fmt: skip
MOST_REPOSITORIES = 100  # of submodules and worktrees
_GITDIR = re.compile(r"gitdir: ([^\n\r\0]+)\r?\n?")
_WORKTREE = re.compile(r"^\s*worktree\s*=\s*(\S.*?)\s*$", re.MULTILINE)
_ELSEWHERE = re.compile(r"^[^\n=;#]*?\b(hooksPath|path)\s*=\s*\"?(\S.*?)\"?\s*$", re.MULTILINE | re.IGNORECASE)
_MOST_BYTES = 64 * 1024


def run_later(directory: Path) -> Iterator[Path]:
    """The files and directories of a project in `directory`, whether they exist or not.

    With submodules and worktrees, as they are now: one that the guest makes later is not among them.
    """
    yield from (directory / name for name in _OTHERS)
    # Where `.git` is none, git takes the directory itself for a repository that has HEAD, objects and refs. The guest
    # can remove `.git/HEAD`, which git has to write; so it must not make the other one.
    yield directory / "HEAD"
    if (directory / "HEAD").exists():
        yield from _of_repository(directory, directory)
    git = directory / ".git"
    if (said := _read(git)) is None:
        yield from _of_repository(git, directory)
    else:
        # A worktree, or a submodule: who changes this file chooses the repository, and with it hooks of their own.
        yield git
        if match := _GITDIR.fullmatch(said):
            yield from _of_repository(Path(os.path.normpath(directory / match[1])), directory)


def _of_repository(git: Path, top: Path) -> Iterator[Path]:
    """`top` is the directory of its files."""
    yield from (git / name for name in _GIT)
    yield from _named_in(git / "config", top)
    for count, module in enumerate(_modules(git / "modules")):
        if count >= MOST_REPOSITORIES:
            return
        yield from (module / name for name in _GIT)
        if match := _WORKTREE.search(_read(module / "config") or ""):
            worktree = Path(os.path.normpath(module / match[1]))
            yield worktree / ".git"
            yield from _named_in(module / "config", worktree)
    for known in _directories(git / "worktrees")[:MOST_REPOSITORIES]:
        yield from (known / name for name in ("commondir", "gitdir", "config.worktree"))


def _named_in(config: Path, top: Path) -> Iterator[Path]:
    """Where the configuration leads: the hooks' directory, files that it includes, programs by their path."""
    for key, value in _ELSEWHERE.findall(_read(config) or ""):
        base = top if key.lower() == "hookspath" else config.parent
        yield Path(os.path.normpath(base / os.path.expanduser(value)))  # noqa: PTH111  (Path's raises for ~nobody)


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


def _read(path: Path) -> str | None:
    """The beginning of a regular file; None where there is none. Waits for nothing, also not for a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return os.read(descriptor, _MOST_BYTES).decode("utf-8", "surrogateescape")
    finally:
        os.close(descriptor)
