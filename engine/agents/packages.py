"""Which packages of the npm registry an agent is made of, in one version and for one architecture."""

from __future__ import annotations

from dataclasses import dataclass

from engine.agents.definition import AgentDefinition
from engine.agents.installation import InstallStep, Package
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
