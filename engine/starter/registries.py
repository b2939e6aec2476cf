"""The registries of languages for which there is no group of endpoints: their hosts, and where to check them.

Where a group of endpoints has the same name, it is proposed instead: a group knows requests, and this knows only hosts.
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
    "go": Registry(
        "Go modules", ("proxy.golang.org", "sum.golang.org"), "https://go.dev/ref/mod#environment-variables"
    ),
    "crates": Registry(
        "crates", ("index.crates.io", "static.crates.io"), "https://doc.rust-lang.org/cargo/reference/registries.html"
    ),
    "rust": Registry("Rust toolchains", ("static.rust-lang.org",), "https://rust-lang.github.io/rustup/basics.html"),
    "rubygems": Registry(
        "gems", ("rubygems.org", "index.rubygems.org"), "https://guides.rubygems.org/rubygems-org-api/"
    ),
    "ruby": Registry("Ruby's releases", ("cache.ruby-lang.org",), "https://www.ruby-lang.org/en/downloads/"),
    "maven": Registry(
        "Maven Central",
        ("repo.maven.apache.org",),
        "https://maven.apache.org/guides/introduction/introduction-to-the-pom.html",
    ),
    "gradle": Registry(
        "Gradle's plugins and releases",
        ("plugins.gradle.org", "plugins-artifacts.gradle.org", "services.gradle.org"),
        "https://docs.gradle.org/current/userguide/plugins.html",
        "gradle/gradle-distributions",
    ),
    "packagist": Registry(
        "Composer; packages come from GitHub as archives",
        ("repo.packagist.org", "api.github.com", "codeload.github.com"),
        "https://getcomposer.org/doc/05-repositories.md",
    ),
    "hex": Registry("Hex", ("repo.hex.pm", "builds.hex.pm"), "https://hex.pm/docs/mirrors"),
    "nuget": Registry("NuGet", ("api.nuget.org",), "https://learn.microsoft.com/nuget/api/overview"),
    "dotnet": Registry(
        ".NET's releases",
        ("dot.net", "builds.dotnet.microsoft.com"),
        "https://learn.microsoft.com/dotnet/core/tools/dotnet-install-script",
    ),
    "conda": Registry("conda-forge", ("conda.anaconda.org",), "https://conda-forge.org/docs/user/introduction/"),
    "jsr": Registry("JSR", ("jsr.io", "npm.jsr.io"), "https://jsr.io/docs/npm-compatibility"),
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
