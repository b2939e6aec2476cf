"""One task for an agent without a terminal: its command, and what its output says. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.agents.definition import AgentDefinition, Commands, Place
from engine.agents.words import fill
from engine.errors import EngineError

DEEPEST = 100  # levels of a value: Python can read more of them than it can write


@dataclass(frozen=True)
class Answered:
    """What an agent said of its task. `usage` is as the agent prints it; None where it does not tell."""

    text: str
    usage: Any = None
    session: str | None = None
    failed: bool = False


def headless_command(definition: AgentDefinition, prompt: str, more: Sequence[str] = ()) -> list[str]:
    """The command for one task, with the arguments `more`. Raises EngineError for an agent that cannot do without a
    terminal."""
    if definition.commands.headless is None:
        raise EngineError(
            f"{definition.title} does nothing without a terminal",
            hint="`sandbox up` starts it in one",
            exit_code=2,
        )
    filled: list[str] = fill(definition.commands.headless, {"prompt": prompt})
    # After `--` there are no options any more: the task stands there, and may begin with a dash.
    end = definition.commands.headless.index("--") if "--" in definition.commands.headless else len(filled)
    return [*filled[:end], *more, *filled[end:]]


def read_answer(commands: Commands, output: str) -> Answered:
    """What an agent's output says. Output that is not what the definition promises is the answer as it is."""
    if commands.answer is None:
        return Answered(output)
    values = list(_values(commands.output, output))
    if (text := _last(values, commands.answer.text)) is None:
        return Answered(output, failed=_last(values, commands.answer.failed) is True)
    session = _last(values, commands.answer.session)
    return Answered(
        text if isinstance(text, str) else json.dumps(text, ensure_ascii=False),
        _last(values, commands.answer.usage),
        session if isinstance(session, str) else None,
        _last(values, commands.answer.failed) is True,
    )


def unsaid(answered: Answered, output: str, last_words: Sequence[str]) -> tuple[str, ...]:
    """The last words of an agent that has failed; none where its answer was found among them, which is shown."""
    return tuple(last_words) if answered.text == output else ()


def _values(kind: str, output: str) -> Iterator[Any]:
    """The JSON in the output, with whatever else a program prints around it."""
    if kind == "json":
        yield from _value(output, max(output.find("{"), 0), whole=False)
    for line in output.splitlines() if kind == "jsonl" else ():
        yield from _value(line.strip(), 0, whole=True)


def _value(text: str, start: int, *, whole: bool) -> Iterator[Any]:
    """The value that stands there; nothing where there is none that can be written again. The program is the guest's.

    `whole`: nothing may stand behind it.
    """
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return
    if (end == len(text) or not whole) and _is_shallow(value):
        yield value


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError("a number that JSON has not")
    return number


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in _within(each)]
        if not level:
            return True
    return False


def _within(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def _last(values: Iterable[Any], place: Place | None) -> Any:
    if place is None:
        return None
    meant = [value for value in values if all(_at(value, key) == said for key, said in place.where.items())]
    found = [_at(value, place.at) for value in meant]
    return next((each for each in reversed(found) if each is not None), None)


def _at(value: Any, keys: str) -> Any:
    for key in keys.split("."):
        if isinstance(value, list) and re.fullmatch(r"-?[0-9]{1,4}", key):
            value = value[int(key)] if -len(value) <= int(key) < len(value) else None
        else:
            value = value.get(key) if isinstance(value, Mapping) else None
    return value
