"""Where the user has secrets that `sandbox secret set` does not keep: secrets.yaml in their own configuration.

    github: {command: [gh, auth, token]}
    anthropic: {command: op read op://Private/Anthropic/key, every: 3600}
    openai: {env: WORK_OPENAI_KEY}
    corp: {file: ~/.secrets/corp}

Each entry stands for what is kept under that name. `every` are the seconds after which a command is asked again. Only
here may a command be named: nothing that a file from a repository says is run on this host.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.secrets.errors import SecretError
from engine.secrets.sources import EVERY_S, Source, command_source, real_path
from engine.secrets.store import check_name
from sandboxfile.diagnostics import Problem, SandboxfileError, did_you_mean
from sandboxfile.reading.regular_file import read_regular_file
from sandboxfile.reading.source import MAX_BYTES, read_source

_KEYS = ("env", "file", "command", "every")
_SHORTEST_S = 5


def load_settings(path: Path) -> Mapping[str, Source]:
    """By name; nothing where there is no file.

    Raises SecretError for one that somebody else could have written, since it names programs that are run, and
    SandboxfileError for its problems.
    """
    try:
        seen = path.stat()
        text = read_regular_file(path, MAX_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SecretError(f"{path} cannot be read: {error.strerror or error}") from None
    if seen.st_uid not in (os.getuid(), 0) or seen.st_mode & 0o022:
        raise SecretError(
            f"{path} can be written by others", "it names programs that are run", f"chmod go-w {shlex.quote(str(path))}"
        )
    if all(line.strip()[:1] in (b"", b"#") for line in text.splitlines()):
        return {}
    source = read_source(text, str(path))
    problems = list(source.problems)
    found: dict[str, Source] = {}
    if source.readable and not problems:
        if not isinstance(source.data, dict | None):
            problems.append(source.diagnose(Problem((), "must be a mapping of names", "github: {env: GH_TOKEN}")))
        for name, value in source.data.items() if isinstance(source.data, dict) else ():
            try:
                found[name] = _source(name, value)
            except _Wrong as wrong:
                problems.append(source.diagnose(wrong.problem))
    if problems:
        # Without the lines: who misunderstands it writes values there.
        raise SandboxfileError(replace(problem, line=None) for problem in problems)
    return found


class _Wrong(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def _source(name: str, value: Any) -> Source:
    try:
        check_name(name)
    except SecretError as error:
        raise _Wrong(Problem((name,), error.brief, error.hint, at_key=True)) from None
    if not isinstance(value, dict):
        raise _Wrong(Problem((name,), "must say where the value is, and never the value itself", "such as {env: NAME}"))
    for key in value:
        if key not in _KEYS:
            raise _Wrong(Problem((name, key), "unknown key", did_you_mean(key, _KEYS), at_key=True))
    given = [key for key in ("env", "file", "command") if key in value]
    if len(given) != 1:
        raise _Wrong(Problem((name,), "needs one of `env`, `file` and `command`"))
    kind, where = given[0], value[given[0]]
    if "every" in value and kind != "command":
        raise _Wrong(Problem((name, "every"), "belongs to a command", at_key=True))
    if kind == "command":
        return _command(name, where, value.get("every", EVERY_S))
    if not isinstance(where, str) or not where:
        raise _Wrong(Problem((name, kind), "must be a text"))
    if kind == "env":
        return Source("env", where)
    path = Path(where).expanduser()
    if not path.is_absolute():
        raise _Wrong(Problem((name, kind), "must be an absolute path, or one from ~/"))
    return Source("file", real_path(path))


def _command(name: str, words: Any, every: Any) -> Source:
    if isinstance(words, str):
        try:
            words = shlex.split(words)
        except ValueError:
            raise _Wrong(Problem((name, "command"), "has a quote that does not end")) from None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words[:1]):
        raise _Wrong(Problem((name, "command"), "must be a program and its arguments", "such as [gh, auth, token]"))
    if not all(isinstance(word, str) for word in words):
        raise _Wrong(Problem((name, "command"), "must be texts"))
    if isinstance(every, bool) or not isinstance(every, int | float) or every < _SHORTEST_S:
        raise _Wrong(Problem((name, "every"), f"must be a number of seconds, {_SHORTEST_S} at least"))
    return command_source(words, float(every))
