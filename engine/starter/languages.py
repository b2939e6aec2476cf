"""Proposals for projects in Rust, Go and Ruby: compilers from Debian.

There is no group of endpoints for the registries of these languages, so the steps that fetch from them are proposed
commented out, for the user to complete. No registry's name is written in this code; those that a project names are
proposed.
"""

from __future__ import annotations

import re

from engine.starter.hosts import host_of
from engine.starter.project_tree import Project, table, word
from engine.starter.proposals import Findings

_REGISTRY = "the names of its registry belong into endpoints"


def look(project: Project, found: Findings) -> None:
    """Propose packages, steps and endpoints for Rust, Go and Ruby."""
    if project.text("Cargo.toml") is not None:
        found.propose("packages", "cargo", "from Cargo.toml")
        inputs = project.inputs("Cargo.toml", "Cargo.lock") + [name for name in ("src",) if project.has(name)]
        found.propose("setup", {"run": "cargo fetch", "inputs": inputs}, f"from Cargo.toml; {_REGISTRY}", active=False)
        for url in (word(entry, "index") for entry in table(project.toml(".cargo/config.toml"), "registries").values()):
            if host := host_of(url.removeprefix("sparse+")):
                found.propose("endpoints", host, "a registry in .cargo/config.toml")
        found.local.append("target")
    if project.text("go.mod") is not None:
        found.propose("packages", "golang-go", "from go.mod")
        inputs = project.inputs("go.mod", "go.sum")
        found.propose("setup", {"run": "go mod download", "inputs": inputs}, f"from go.mod; {_REGISTRY}", active=False)
    if project.text("Gemfile") is not None:
        for name in ("ruby-dev", "ruby-bundler", "build-essential"):
            found.propose("packages", name, "from Gemfile")
        for url in re.findall(
            r"""(?m)^[ \t]*source[ \t]*\(?[ \t]*["'](https?://[^"'\s]+)""", project.text("Gemfile") or ""
        ):
            if host := host_of(url):
                found.propose("endpoints", host, "a source in Gemfile")
        step = {
            "run": "bundle install",
            "inputs": project.inputs("Gemfile", "Gemfile.lock", ".ruby-version"),
            "env": {"BUNDLE_PATH": "/home/agent/.bundle/gems"},
        }
        found.propose("setup", step, f"from Gemfile; {_REGISTRY}", active=False)
