"""Where a project in JavaScript has packages from, besides its registry: repositories, archives, other registries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from engine.starter.hosts import host_of
from engine.starter.project_tree import Project, table
from engine.starter.proposals import Findings

DEPENDENCIES = ("dependencies", "devDependencies", "optionalDependencies")
_MOST_HOSTS = 10
_GITHUB = re.compile(
    r"(?:github:|(?:git\+)?(?:https?|ssh|git)://(?:[\w.-]+@)?github\.com/|git@github\.com:|)"
    r"([A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9_.-]{1,100}?)(?:\.git)?(?:#.*)?"
)
_SHORT = {"gitlab:": "gitlab.com", "bitbucket:": "bitbucket.org", "gist:": "gist.github.com"}
# As npm's setting replace-registry-host has it: instead of its hosts npm asks the registry that it is configured with.
_REPLACED = "npmjs"


def propose_sources(project: Project, found: Findings, package: dict[str, Any]) -> None:
    """Propose endpoints for dependencies that package.json or package-lock.json has from elsewhere than a registry."""
    named = (text for key in DEPENDENCIES for text in table(package, key).values() if isinstance(text, str))
    _propose(found, named, "a dependency in package.json")
    for lock in ("npm-shrinkwrap.json", "package-lock.json"):
        if (project.text(lock) or "").strip():
            _propose(found, _resolved(project.json(lock)), f"where {lock} has packages from")


def propose_yarn_hosts(project: Project, found: Findings) -> None:
    """A lock file of Yarn 1 has whole URLs, and they are what it fetches."""
    urls = re.findall(r'(?m)^  resolved "(https://[^"\s]{1,500})"', project.text("yarn.lock") or "")
    hosts = dict.fromkeys(filter(None, (host_of(url) for url in urls)))
    for host in list(hosts)[:_MOST_HOSTS]:
        found.propose("endpoints", host, "where yarn.lock has packages from")


def _resolved(lock: dict[str, Any]) -> Iterator[str]:
    """What a lock file of npm says to fetch, but for what the group npm has already."""
    waiting = [table(lock, "packages"), table(lock, "dependencies")]
    while waiting:
        for entry in waiting.pop().values():
            if not isinstance(entry, dict):
                continue
            waiting.append(table(entry, "dependencies"))
            for key in ("resolved", "version"):
                url = entry.get(key)
                if isinstance(url, str) and ":" in url and _REPLACED not in (host_of(url) or "").split("."):
                    yield url


def _propose(found: Findings, sources: Iterable[str], seen: str) -> None:
    hosts: dict[str, None] = {}
    for source in sources:
        if len(source) > 2000:
            continue
        if match := _GITHUB.fullmatch(source):
            found.propose("endpoints", {"github": match[1]}, seen)
            continue
        short = next((host for prefix, host in _SHORT.items() if source.startswith(prefix)), None)
        if host := short or host_of(source):
            hosts[host] = None
    for host in list(hosts)[:_MOST_HOSTS]:
        found.propose("endpoints", host, seen)
