"""Programs that fetch packages, as Dockerfiles and commands call them, and the registries that they need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from engine.starter.proposals import Findings
from engine.starter.registries import propose_registry
from sandboxfile.names import NAMED

ALONE = ""  # called without a subcommand


class Program(NamedTuple):
    """A program by its names; it fetches with one of the subcommands `calls`, or with any where there are none.

    `packages` are Debian's that have the program; none where every machine has it, or Debian does not.
    """

    names: frozenset[str]
    calls: frozenset[str]
    registries: tuple[str, ...]
    packages: tuple[str, ...] = ()


def _program(names: str, calls: str, registries: str, packages: str = "", alone: bool = False) -> Program:
    each = frozenset([*calls.split(), *([ALONE] if alone else [])])
    return Program(frozenset(names.split()), each, tuple(registries.split()), tuple(packages.split()))


PROGRAMS = (
    _program("npm", "ci i install add update exec", "npm"),
    _program("npx", "", "npm"),
    _program("yarn", "install add up dlx", "npm", alone=True),
    _program("pnpm bun bunx", "i install add fetch dlx x", "npm"),
    _program("pip pip3 pipx pipenv", "install download sync wheel", "pypi"),
    _program("uv", "sync pip add tool run", "pypi"),
    _program("uvx", "", "pypi"),
    _program("poetry", "install add sync", "pypi"),
    _program("apt apt-get", "install update upgrade", "debian"),
    _program("apk", "add update upgrade", "alpine"),
    _program("go", "mod get install build run test", "go", "golang-go"),
    _program("cargo", "build install fetch run test check chef", "crates", "cargo"),
    _program("bundle", "install check exec", "rubygems", "ruby-dev ruby-bundler build-essential", alone=True),
    _program("gem", "install", "rubygems", "ruby-dev build-essential"),
    _program("mvn mvnw", "", "maven", "default-jdk-headless maven"),
    _program("gradle gradlew", "", "maven gradle", "default-jdk-headless"),
    _program("composer", "install update require create-project", "packagist", "php-cli unzip composer"),
    _program("mix", "deps.get local.hex local.rebar archive.install", "hex", "elixir erlang-dev build-essential"),
    _program("dotnet", "restore build publish test run", "nuget"),
    _program("conda mamba micromamba", "install env create update", "conda"),
)
_BEFORE = {"sudo", "env", "exec", "time", "command", "corepack", "RUN", "run", "then", "do", "!"}
_RUN = re.compile(r"(?im)^[ \t]*RUN[ \t]+(.{1,10000})$")


def groups_of(words: Iterable[str]) -> list[str]:
    """The groups of endpoints that programs among `words` fetch from, whatever they are called to do."""
    named = [program for word in words for program in PROGRAMS if word in program.names]
    return list(dict.fromkeys(name for program in named for name in program.registries if name in NAMED))


def programs_in(text: str) -> list[Program]:
    """The programs that a shell's text calls so that they fetch something."""
    called = list(calls(text))
    return [program for program in PROGRAMS if any(_fetches(program, *call) for call in called)]


def _fetches(program: Program, name: str, words: list[str]) -> bool:
    if name not in program.names:
        return False
    plain = [word for word in words if not word.startswith("-")] or [ALONE]
    return not program.calls or not program.calls.isdisjoint(plain[:3])  # a value of an option may be before it


def calls(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a shell's text: the name of its program, and its other words."""
    for part in re.split(r"&&|\|\||[;|&(){}\n`]", text[:100_000]):
        words = part.replace('"', " ").replace("'", " ").split()
        while words and (words[0] in _BEFORE or words[0].startswith("-") or "=" in words[0]):
            words.pop(0)
        if len(words) > 2 and re.fullmatch(r"(?:\S*/)?python[0-9.]*", words[0]) and words[1] == "-m":
            words = words[2:]
        if words:
            yield words[0].rpartition("/")[2], words[1:]


def propose_fetching(found: Findings, dockerfile: str, seen: str) -> None:
    """Propose the registries that the steps of a Dockerfile fetch packages from."""
    whole = re.sub(r"\\[ \t]*\n(?:[ \t]*#[^\n]*\n)*", " ", dockerfile)
    for program in programs_in("\n".join(_RUN.findall(whole))):
        for registry in program.registries:
            ubuntu = registry == "debian" and re.search(r"(?im)^[ \t]*FROM[ \t]+\S{0,200}ubuntu", dockerfile)
            propose_registry(found, "ubuntu" if ubuntu else registry, seen, part="services")
