"""What git's configuration files lead to: files that they include, the hooks' directory, and programs (git-config(1)).

git itself is not asked: this host may have none, and it fails at the first line that it does not understand, after it
has obeyed those before.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

MOST_INCLUDED = 10  # one in the other, as for git
MOST_FILES = 100
MOST_HOOKS = 200
_MOST_BYTES = 64 * 1024
_ENTRY = re.compile(
    r"""[ \t]*(?:\[[ \t]*(?P<section>[\w.-]+)(?:[ \t]+"(?:[^"\\\n]|\\.)*")?[ \t]*\])?[ \t]*"""
    r"""(?:(?P<key>[A-Za-z][\w-]*)[ \t]*=[ \t]*"""
    r"""(?P<value>(?:[^\\\n#;"]|\\.|\\\n|"(?:[^"\\\n]|\\.|\\\n)*")*))?[^\n]*\n?"""
)
_PIECE = re.compile(r'\\(?P<escaped>.|\n)|(?P<quote>")|(?P<plain>[^\\"]+)')
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b", "\n": ""}
# Whose values are commands. Aliases are, where they begin with an exclamation mark.
_COMMANDS = frozenset((
    "clean", "smudge", "process", "fsmonitor", "external", "textconv", "command", "cmd", "driver", "sshcommand",
    "gitproxy", "editor", "pager", "askpass", "helper", "program", "alternaterefscommand",
))  # fmt: skip


def entries(text: str) -> Iterator[tuple[str, str, str]]:
    """Section (without its quoted part), key (both in small letters) and value of each entry, in their order."""
    section, at = "", 0
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    while at < len(text) and (match := _ENTRY.match(text, at)):
        section = (match["section"] or section).lower()
        if match["key"]:
            yield section, match["key"].lower(), _value(match["value"])
        at = max(match.end(), at + 1)


def _value(raw: str) -> str:
    said, quoted = "", False
    for piece in _PIECE.finditer(raw.rstrip()):
        if piece["quote"]:
            quoted = not quoted
        elif escaped := piece["escaped"]:
            said += _ESCAPES.get(escaped, escaped)
        else:
            said += piece["plain"] if said or quoted else piece["plain"].lstrip()
    return said


def named_in(config: Path, top: Path, known: set[Path] | None = None, depth: int = 0) -> Iterator[Path]:
    """The files and directories that the file `config` leads to. `top` is the directory of the repository's files."""
    known = set() if known is None else known
    if config in known or len(known) >= MOST_FILES:
        return
    known.add(config)
    for section, key, value in entries(read_beginning(config, through_links=True) or ""):
        if key == "path" and section.partition(".")[0] in ("include", "includeif"):
            if included := _placed(config.parent, value):
                yield included
                if depth < MOST_INCLUDED:
                    yield from named_in(included, top, known, depth + 1)
        elif key == "hookspath":
            if directory := _placed(top, value):
                yield from hooks(directory, top)
        elif key == "excludesfile":  # what it ignores no more would go into a private copy
            if ignored := _placed(top, value):
                yield ignored
        elif key in _COMMANDS or value.startswith("!"):
            yield from _programs(value.removeprefix("!"), top)


def hooks(directory: Path, top: Path) -> Iterator[Path]:
    """The directory, the links in it (a hook that leads to a script of the project), and the one that husky calls."""
    for each in (directory, directory.parent) if directory.name == "_" and directory.parent != top else (directory,):
        yield each
        try:
            with os.scandir(each) as found:
                links = [entry.name for entry in islice(found, MOST_HOOKS) if entry.is_symlink() and not entry.is_dir()]
        except OSError:
            continue
        yield from (each / name for name in sorted(links))


def _programs(command: str, top: Path) -> Iterator[Path]:
    """What a command runs of the project's own: its first word, also if it is missing, and others that are files."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    for number, word in enumerate(words):
        path = _placed(top, word)
        if path is None or not path.is_relative_to(top):
            continue
        if path.is_file() or (number == 0 and "/" in word and not path.is_dir()):
            yield path


def _placed(base: Path, value: str) -> Path | None:
    """The path that `value` means; None for what is no path, or none of this system."""
    path = Path(os.path.normpath(base / os.path.expanduser(value)))  # noqa: PTH111  (Path's raises for ~nobody)
    raw = os.fsencode(path)
    is_one = value and b"\0" not in raw and len(raw) < 4096 and max(map(len, raw.split(b"/"))) < 256
    return path if is_one else None


def read_beginning(path: Path, *, through_links: bool = False) -> str | None:
    """The first 64 KiB of a regular file; None where there is none. Waits for nothing, also not for a pipe."""
    try:
        links = 0 if through_links else os.O_NOFOLLOW
        descriptor = os.open(path, os.O_RDONLY | links | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return os.read(descriptor, _MOST_BYTES).decode("utf-8", "surrogateescape")
    finally:
        os.close(descriptor)
