"""How the user likes it, on this host, for all sandboxes: config.yaml in their own configuration.

detach_keys: ctrl-p,ctrl-q
cache_size: 20GiB
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import EngineError
from sandboxfile.diagnostics import Diagnostic, Problem, SandboxfileError, did_you_mean
from sandboxfile.quantities import parse_size
from sandboxfile.reading.regular_file import read_regular_file
from sandboxfile.reading.source import MAX_BYTES, Source, read_source

KEYS = ("detach_keys", "cache_size")
EXAMPLES = {"detach_keys": "ctrl-p,ctrl-q", "cache_size": "20GiB"}
NO_LIMIT = "none"


@dataclass(frozen=True)
class Habits:
    """`detach_keys` as `--detach-keys` has them, `cache_size` as `cache prune --size`, or "none" for no limit.

    None where the file does not say.
    """

    detach_keys: str | None = None
    cache_size: str | None = None


def load_habits(path: Path) -> Habits:
    """Raises EngineError for a file that cannot be read, and SandboxfileError for its problems."""
    try:
        text = read_regular_file(path, MAX_BYTES)
    except FileNotFoundError:
        return Habits()
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror or error}", exit_code=2) from None
    if all(line.strip()[:1] in (b"", b"#") for line in text.splitlines()):
        return Habits()
    source = read_source(text, str(path))
    if problems := [*source.problems, *_problems(source)]:
        raise SandboxfileError(problems)
    return Habits(**source.data) if isinstance(source.data, dict) else Habits()


def _problems(source: Source) -> Iterator[Diagnostic]:
    for key, value in source.data.items() if isinstance(source.data, dict) else ():
        if key not in KEYS:
            yield source.diagnose(Problem((key,), "unknown key", did_you_mean(key, KEYS), at_key=True))
        elif not isinstance(value, str):
            yield source.diagnose(Problem((key,), "must be a text", f"such as {EXAMPLES[key]}"))
        elif key == "cache_size":
            try:
                parse_limit(value)
            except ValueError as error:
                yield source.diagnose(Problem((key,), str(error), f"such as {EXAMPLES[key]}, or none for no limit"))


def parse_limit(text: str) -> int | None:
    """A size in bytes; None for "none". Raises ValueError with a message for people."""
    return None if text == NO_LIMIT else parse_size(text)
