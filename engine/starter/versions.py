"""The versions of languages that a project asks for, and those that the machine has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from engine.starter.project_tree import Project

# What Debian 13 has, and so the machine.
DEBIAN = {
    "node": (20,),
    "python": (3, 13),
    "ruby": (3, 3, 8),
    "go": (1, 24),
    "rust": (1, 85),
    "java": (21,),
    "php": (8, 4),
}
# mise and asdf name some languages in two ways.
_ALIASES = {"node": ("nodejs",), "go": ("golang",)}


class Asked(NamedTuple):
    """A version that a project asks for. `seen` is where; `text` has digits and dots only."""

    text: str
    seen: str
    exact: bool

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(map(int, self.text.split(".")))


def asked_version(
    project: Project, language: str, files: Iterable[str] = (), more: Iterable[tuple[str, str]] = ()
) -> Asked | None:
    """The first version that the project asks for.

    `files` have nothing but a version in them; `more` are pairs of a text and where it is. A text such as `>=3.10` or
    `^20` is a lower bound; another one, such as `3.12` or `v22`, is exact.
    """
    names = (language, *_ALIASES.get(language, ()))
    tools = dict(re.findall(r"(?m)^([a-z]{1,20})[ \t]+(\S{1,40})", project.text(".tool-versions") or ""))
    texts = [(project.text(name) or "", name) for name in files]
    texts += [(tools.get(name, ""), ".tool-versions") for name in names]
    mise = project.toml("mise.toml") or project.toml(".mise.toml")
    table = mise.get("tools")
    texts += [(str(table.get(name, "")), "mise.toml") for name in names] if isinstance(table, dict) else []
    for text, seen in (*texts, *more):
        match = re.match(r"(?:ruby-|go)?([v^~>=\s]{0,10})([0-9]{1,4}(?:\.[0-9]{1,4}){0,3})(?![0-9])", text.strip())
        if match:
            return Asked(match[2], seen, not set(match[1]) & set("^~>"))
    return None


def is_newer(asked: Asked, language: str) -> bool:
    """Whether the project asks for more than the machine has."""
    has = DEBIAN[language]
    return asked.numbers[: len(has)] > has


def differs(asked: Asked, language: str) -> bool:
    """Whether the machine's version is not the one that the project asks for, as exactly as it asks."""
    has = DEBIAN[language]
    return is_newer(asked, language) or (asked.exact and asked.numbers[: len(has)] != has[: len(asked.numbers)])


def shown(language: str) -> str:
    """The machine's version as text."""
    return ".".join(map(str, DEBIAN[language]))
