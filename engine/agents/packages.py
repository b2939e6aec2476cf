"""Which packages of the npm registry an agent is made of, in one version and for one architecture."""

from __future__ import annotations

from dataclasses import dataclass

from engine.agents.definition import AgentDefinition
from engine.agents.installation import InstallStep, NpmInstall, Package
from engine.agents.lock import Locked, read_lock
from engine.agents.places import find_agents
from engine.agents.words import fill, words_in
from engine.errors import EngineError


@dataclass(frozen=True)
class Wanted:
    """A package of the npm registry. Without `integrity` the registry says itself which digest the package has: that is
    so for a version of an agent that its definition has not seen."""

    name: str
    version: str
    integrity: str | None

    @property
    def blame(self) -> int:
        """The exit code when it is not there: 2, a bad file, when the user's own names it or its version."""
        return 2 if self.integrity is None else 1

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"


def wanted_package(
    definition: AgentDefinition, step: InstallStep, version: str | None, architecture: str
) -> Wanted | None:
    """The package that a step of the installation unpacks or installs; None for a step without one.

    `version` is the one that the Sandboxfile names, `architecture` Debian's name of it. Raises EngineError when the
    agent cannot be had for this architecture.
    """
    usual = definition.install.version
    words = {"version": version or usual}
    if step.npm is not None:
        known = step.npm.integrity if words["version"] == usual else None
        return Wanted(step.npm.package, words["version"], known)
    if step.unpack is None:
        return None
    package: Package | None = getattr(step.unpack, architecture, None)
    if package is None:
        raise EngineError(
            f"{definition.title} cannot be installed on {architecture}",
            hint=f"see {definition.docs}" if definition.docs else "its definition names no package for it",
        )
    changed = words["version"] != usual and "version" in words_in(package.version)
    return Wanted(package.package, fill(package.version, words), None if changed else package.integrity)


def locked_packages(
    definition: AgentDefinition, what: NpmInstall, version: str | None, architecture: str
) -> tuple[Locked, ...]:
    """All packages that a step installs, by its lock file; none without one, and for another version than the usual.

    Raises EngineError for a lock file that cannot be read, or that is for another version.
    """
    usual = definition.install.version
    if what.lock is None or version not in (None, usual):
        return ()
    path = find_agents()[definition.name].path.with_name(what.lock)
    packages = read_lock(path, architecture)
    main = next((package for package in packages if package.where == f"node_modules/{what.package}"), None)
    if main is None or main.version != usual or main.integrity != (what.integrity or main.integrity):
        raise EngineError(
            f"{definition.name}/{what.lock} is not for {what.package} {usual}",
            hint="`python scripts/lock_agent.py FOLDER` writes it anew",
            exit_code=2,
        )
    return packages
