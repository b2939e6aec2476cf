"""Proposals for projects in other languages: what Debian has for them, the hosts, and steps that are commented out.

Their tools run the project's own build files to find out what to fetch, and those read files that nobody can list for
them here. So the machine comes up with the tool, and what is to be fetched is fetched by the first build in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.starter.project_tree import Project
from engine.starter.proposals import Findings
from engine.starter.registries import propose_registry
from engine.starter.versions import asked_version, is_newer, shown


@dataclass(frozen=True)
class Stack:
    """One kind of project. `marks` are files that show it; one that begins with `*` may have any name.

    `step` is a command that is run, `later` one that is commented out, for the reason `why`.
    """

    title: str
    marks: tuple[str, ...]
    packages: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()
    step: str = ""
    later: str = ""
    why: str = "build files read files that would be inputs, too"
    note: str = ""


_JDK = "default-jdk-headless"
STACKS = (
    Stack("Java with Maven", ("pom.xml",), (_JDK, "maven"), ("maven",), later="mvn -B dependency:go-offline"),
    Stack(
        "a project with Gradle",
        ("build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts"),
        (_JDK,),
        ("maven", "gradle"),
        later="./gradlew --no-daemon dependencies",
    ),
    Stack(
        "PHP with Composer",
        ("composer.json",),
        ("php-cli", "php-xml", "php-mbstring", "php-curl", "php-zip", "unzip", "composer"),
        ("packagist",),
        later="composer install --no-scripts --no-interaction",
        why="the live mount hides vendor: run it in the machine",
    ),
    Stack(
        "Elixir with Mix",
        ("mix.exs",),
        ("elixir", "erlang-dev", "build-essential"),
        ("hex",),
        step="mix local.hex --force && mix local.rebar --force",
        later="mix deps.get",
        why="the live mount hides deps: run it in the machine",
    ),
    Stack(
        ".NET",
        ("*.csproj", "*.fsproj", "*.sln", "*.slnx", "global.json"),
        ("libicu-dev",),
        ("nuget", "dotnet"),
        later="curl -fsSL https://dot.net/v1/dotnet-install.sh | bash -s -- --channel LTS",
        why="Debian has no .NET, and this runs a script of Microsoft's",
    ),
    Stack(
        "a project with conda",
        ("environment.yml", "environment.yaml"),
        (),
        ("conda",),
        note="Debian has no conda: micromamba, which is one file, makes the environment; its releases need an endpoint",
    ),
    Stack(
        "Deno",
        ("deno.json", "deno.jsonc", "deno.lock"),
        (),
        ("jsr", "deno"),
        step="sudo npm install -g deno",
        later="deno install",
        why="modules that the project's files name are inputs, too",
    ),
    Stack(
        "Bazel",
        ("MODULE.bazel", "WORKSPACE", "WORKSPACE.bazel"),
        ("build-essential",),
        ("bazel",),
        step="sudo npm install -g @bazel/bazelisk",
        note="Bazel fetches from GitHub, too: its rules' repositories need endpoints, such as {github: bazelbuild/*}",
    ),
    Stack(
        "tools by mise",
        ("mise.toml", ".mise.toml"),
        (),
        (),
        later="sudo npm install -g @jdxcode/mise && mise install",
        why="each tool comes from a place of its own, which needs an endpoint",
    ),
)
_BY_NPM = re.compile("sudo npm install")


def look(project: Project, found: Findings) -> None:
    """Propose what is known for each kind of project that `project` is."""
    for stack in STACKS:
        if marks := [name for mark in stack.marks for name in _matching(project, mark)]:
            _propose(project, found, stack, marks[0])
    if project.has("pom.xml") or project.has("build.gradle") or project.has("build.gradle.kts"):
        _propose_java(project, found)


def _matching(project: Project, mark: str) -> list[str]:
    if mark.startswith("*"):
        return sorted(name for name in project.names if name.endswith(mark[1:]) and name.isprintable())[:1]
    return project.inputs(mark)


def _propose(project: Project, found: Findings, stack: Stack, mark: str) -> None:
    seen = f"from {mark}: {stack.title}"
    for package in stack.packages:
        found.propose("packages", package, seen)
    for registry in stack.registries:
        propose_registry(found, registry, mark)
    if _BY_NPM.match(stack.step):
        found.propose("endpoints", "npm", f"the tool for {mark}")
    if stack.step:
        found.propose("setup", stack.step, seen)
    wrapped = "gradlew" not in stack.later or project.has("gradlew")
    if stack.later and wrapped:
        found.propose("setup", stack.later, f"{seen}; {stack.why}", active=False)
    elif stack.later:
        found.note(f"{mark}: there is no gradlew, and Debian's Gradle is old: `gradle wrapper` on this host makes one")
    if stack.note:
        found.note(f"{mark}: {stack.note}")


def _propose_java(project: Project, found: Findings) -> None:
    pom = project.text("pom.xml") or ""
    match = re.search(r"<(?:maven\.compiler\.release|java\.version)>\s{0,9}([0-9.]{1,9})\s{0,9}<", pom)
    asked = asked_version(project, "java", (".java-version",), [(match[1] if match else "", "pom.xml")])
    if asked and is_newer(asked, "java"):
        found.note(f"{asked.seen} asks for Java {asked.text}; the machine has {shown('java')}")
