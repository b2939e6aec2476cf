"""Why a command of a dev container cannot be a step of setup, which has its inputs only and runs on Debian."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from engine.starter.programs import calls

_WHOLE = re.compile(r"(?<![\w.-])(?:bin/)?(?:rails|rake|artisan|manage\.py)(?=[\s\"'])")
_FOREIGN = {"dnf", "yum", "apk", "pacman", "zypper", "microdnf", "tdnf"}
_OTHER_USER = re.compile(r"/home/(?!agent\b)[a-z]|\b(?:vscode|node):(?:vscode|node)\b|\bsu (?:- )?(?:vscode|node)\b")
_IN_IMAGE = re.compile(r"(?<![\w.}])(?:/usr/local/(?:bin|share|sbin)/[\w./-]+|/opt/[\w./-]+|/(?:scripts|app)/[\w./-]+)")

# Programs that put hooks into .git, each with the subcommands that do.
_HOOKS = {
    "pre-commit": {"install", "run", "install-hooks"},
    "pre_commit": {"install", "run", "install-hooks"},
    "prek": {"install", "run"},
    "lefthook": {"install", "run"},
    "husky": {"", "install"},
    "simple-git-hooks": {""},
    "git-lfs": {"pull", "fetch", "checkout"},
}
# What git does anywhere; a repository that a command makes itself is the one for the rest.
_ANYWHERE = {"ls-remote", "--version", "version", "help", ""}
_MAKES = {"clone", "init"}
_RUNNERS = {"npx", "bunx", "uvx", "pnpm", "yarn", "npm", "uv", "poetry", "pipenv", "bundle"}
_RUNNER_WORDS = {"exec", "run", "dlx", "--"}


def obstacle(tokens: Sequence[str], command: str, script: str) -> str:
    """Why a command, or the script that it runs, cannot run in setup; "" when nothing shows that."""
    if foreign := _FOREIGN & set(tokens):
        return f"the machine is Debian, and has no {min(foreign)}"
    if _OTHER_USER.search(command):
        return "the machine's user is `agent`, in /home/agent"
    if match := _IN_IMAGE.search(command):
        return f"{match[0]} was in the image"
    if any(one in ("-e", "--editable") and after.startswith(".") for one, after in pairwise(tokens)):
        return "the package's files are inputs, too"
    text = f"{command}\n{script}"
    if match := _WHOLE.search(text):
        return f"{match[0]} works with all of the project: run it in the machine"
    if wanting := _of_the_repository(text):
        return f"{wanting} needs the repository: run it in the machine"
    return ""


def _of_the_repository(text: str) -> str:
    """The first command that works with the project's repository; "" when there is none."""
    for name, words in calls(text):
        while name in _RUNNERS and words:
            rest = [word for word in words if word not in _RUNNER_WORDS and not word.startswith("-")]
            if not rest or rest[0] not in _HOOKS:
                break
            name, words = rest[0], rest[1:]
        plain = [word for word in words if not word.startswith("-")]
        first = plain[0] if plain else ""
        if name in _HOOKS and first in _HOOKS[name]:
            return f"{name} {first}".strip()
        if name == "git":
            if first in _MAKES:
                return ""
            if _wants_repository(first, words):
                return f"git {first}"
    return ""


def _wants_repository(first: str, words: Sequence[str]) -> bool:
    """Whether git, called with `words`, of which `first` is the subcommand, needs to be in a repository."""
    if first == "config":
        return not {"--global", "--system"} & set(words)
    if first == "lfs":
        return "install" not in words
    return first not in _ANYWHERE and "-C" not in words
