"""Which file a command needs that the project does not have: such a step would fail at the first `up`."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import pairwise

from engine.starter.project_tree import Project

_INTERPRETERS = {"bash", "sh", "zsh", "dash", "python", "python3", "node", "ruby", "php", "source", ".", "bun", "deno"}
_PATH = re.compile(r"(?!-)(?:\./)?[A-Za-z0-9._][A-Za-z0-9._/-]{0,200}")
# Beginning of a command -> files of which it needs one.
_NEEDS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("npm", "ci"): ("package-lock.json", "npm-shrinkwrap.json"),
    **dict.fromkeys(
        [("npm", "install"), ("npm", "i"), ("npm", "run"), ("yarn",), ("pnpm", "install")], ("package.json",)
    ),
    ("make",): ("Makefile", "makefile", "GNUmakefile"),
    ("bundle", "install"): ("Gemfile",),
    ("composer", "install"): ("composer.json",),
    ("go", "mod"): ("go.mod",),
    **dict.fromkeys([("cargo", "build"), ("cargo", "fetch")], ("Cargo.toml",)),
    **dict.fromkeys([("poetry", "install"), ("uv", "sync")], ("pyproject.toml",)),
    ("pre-commit", "install"): (".pre-commit-config.yaml",),
}
_ALONE = {("npm", "install"), ("npm", "i"), ("yarn",)}  # with names they need no file
_ELSEWHERE = {"-C", "--directory", "-f", "--file", "--makefile", "--prefix", "--cwd", "-g", "--global"}


def missing_file(project: Project, command: str) -> str | None:
    """The first such file; None where the command needs none, or nobody can tell."""
    for words in _commands(command):
        if words[0] in ("cd", "pushd", "git"):  # from here on paths are other ones, or there are other files
            return None
        for names in _needed(words):
            if not any(project.has(posixpath.normpath(name)) for name in names):
                return posixpath.normpath(names[0])
    return None


def _commands(command: str) -> Iterator[list[str]]:
    """The words of each simple command in a shell's text; none of a text that is not understood."""
    try:
        lexer = shlex.shlex(command, posix=True, punctuation_chars=";&|()\n")
        lexer.whitespace = " \t"
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:
        return
    part: list[str] = []
    for word in [*words, ";"]:
        if word.strip(";&|()\n"):
            part.append(word)
            continue
        while part and (part[0] in ("sudo", "exec", "time", "env") or re.match(r"[A-Za-z_]\w*=", part[0])):
            del part[0]
        if part:
            yield part
        part = []


def _needed(words: list[str]) -> Iterator[tuple[str, ...]]:
    """Files of which the command needs one each."""
    program, rest = words[0], words[1:]
    if _PATH.fullmatch(program) and "/" in program:
        yield (program,)
    if program in _INTERPRETERS:
        script = next((word for word in rest if not word.startswith("-")), None)
        if script and not {"-c", "-m", "-e"} & set(rest) and _PATH.fullmatch(script) and "." in script:
            yield (script,)
    for option, name in pairwise(rest):
        if program in ("pip", "pip3") and option in ("-r", "--requirement") and _PATH.fullmatch(name):
            yield (name,)
    if _ELSEWHERE & set(rest):
        return
    for beginning, names in _NEEDS.items():
        named = [word for word in words[len(beginning) :] if not word.startswith("-")]
        if tuple(words[: len(beginning)]) == beginning and not (beginning in _ALONE and named not in ([], ["install"])):
            yield names
