"""What projects fetch from besides the groups of endpoints: toolchains, and registries of fewer projects.

Where a group of endpoints has the same name, it is proposed instead: a group knows requests, and this knows only hosts.
`source` is the page to check an entry against. Of .NET, uv's builds of Python and Gradle's plugins the hosts were seen
in use in public code; the others were written down by those pages' names, and not compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.starter.proposals import Findings
from sandboxfile.names import NAMED


@dataclass(frozen=True)
class Registry:
    """One registry. `source` is the page of its makers to check the hosts against."""

    title: str
    hosts: tuple[str, ...]
    source: str
    repository: str = ""  # of github.com, where its releases are what is fetched


REGISTRIES = {
    "rust": Registry("Rust toolchains", ("static.rust-lang.org",), "https://rust-lang.github.io/rustup/basics.html"),
    "ruby": Registry("Ruby's releases", ("cache.ruby-lang.org",), "https://www.ruby-lang.org/en/downloads/"),
    "gradle": Registry(
        "Gradle's plugins and releases",
        ("plugins.gradle.org", "plugins-artifacts.gradle.org", "services.gradle.org"),
        "https://docs.gradle.org/current/userguide/plugins.html",
        "gradle/gradle-distributions",
    ),
    "dotnet": Registry(
        ".NET's releases",
        ("dot.net", "builds.dotnet.microsoft.com"),
        "https://learn.microsoft.com/dotnet/core/tools/dotnet-install-script",
    ),
    "deno": Registry("Deno's modules", ("deno.land",), "https://docs.deno.com/runtime/fundamentals/modules/"),
    "bazel": Registry(
        "Bazel's registry and releases",
        ("bcr.bazel.build", "releases.bazel.build", "mirror.bazel.build"),
        "https://bazel.build/external/registry",
    ),
    "alpine": Registry(
        "Alpine's packages", ("dl-cdn.alpinelinux.org",), "https://wiki.alpinelinux.org/wiki/Repositories"
    ),
    "ubuntu": Registry(
        "Ubuntu's packages", ("archive.ubuntu.com", "security.ubuntu.com"), "https://ubuntu.com/server/docs/apt"
    ),
    "python": Registry(
        "the builds of Python that uv installs",
        ("releases.astral.sh",),
        "https://docs.astral.sh/uv/concepts/python-versions/",
        "astral-sh/python-build-standalone",
    ),
}


def propose_registry(found: Findings, name: str, seen: str, part: str = "") -> None:
    """Propose endpoints for a registry. `seen` is the file of the project that asks for it; `part` as in a proposal."""
    if name in NAMED:
        found.propose("endpoints", name, f"from {seen}", part=part)
        return
    registry = REGISTRIES[name]
    for host in registry.hosts:
        found.propose("endpoints", host, f"{registry.title}, from {seen}; {registry.source}", part=part)
    if registry.repository:
        found.propose("endpoints", {"github": registry.repository}, f"{registry.title}, from {seen}", part=part)
