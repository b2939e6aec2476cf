"""One attempt, and the reader of the files that hold them.

A file is a group; each table of it is an attempt, or several of them that differ in `value`. `attack` is Python that
runs as root in the guest, with what `engine/attacks/guest/` has and the names of a stage. `guest` is a regular
expression for what it says. `journal` has a table for each line that the gateway may write meanwhile, with regular
expressions: each must come, and nothing else may. No `journal`: the attempt never reaches the gateway.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from engine.errors import EngineError

CASES = Path(__file__).parent / "cases"
GATEWAY, MACHINE, HOST = "gateway", "machine", "host"
_FIELDS = frozenset({"claim", "attack", "guest", "journal", "needs", "states", "values"})
_LINE = frozenset({"verdict", "host", "port", "how", "method", "path", "reason"})


class Tried(Protocol):
    """What is tried: one of a kind, of a group."""

    @property
    def group(self) -> str: ...

    @property
    def kind(self) -> str: ...


_Tried = TypeVar("_Tried", bound=Tried)


@dataclass(frozen=True)
class Case:
    """`needs` says what it takes: a gateway, a machine around the guest, or only the host (host/check.py).

    No `states`: it is tried in each, but where `states.py` says why it is not.
    """

    group: str
    kind: str
    claim: str
    attack: str
    guest: str
    journal: tuple[Mapping[str, str], ...] = ()
    needs: str = GATEWAY
    states: tuple[str, ...] = ()
    variant: str = ""
    value: str = ""

    def is_for(self, state: str) -> bool:
        return not self.states or state in self.states

    @property
    def label(self) -> str:
        return f"{self.group}: {self.kind}" + (f" ({self.variant})" if self.variant else "")


def load_cases(directory: Path = CASES) -> list[Case]:
    """All of them, in the order of the files' names. Raises EngineError for a file that makes no sense."""
    return [case for path in sorted(directory.glob("*.toml")) for case in read_group(path.stem, path.read_text())]


def read_group(group: str, text: str) -> list[Case]:
    """The attempts of one file. Raises EngineError."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EngineError(f"the attacks {group} cannot be read", str(error)) from error
    needs = tables.pop("needs", GATEWAY)
    if needs not in (GATEWAY, MACHINE):
        raise EngineError(f"the attacks {group} need a {needs}, which there is not")
    return [case for name, table in tables.items() for case in _read_case(group, name, {"needs": needs, **table})]


def _read_case(group: str, name: str, table: dict[str, Any]) -> Iterator[Case]:
    where = f"the attack {group}: {name}"
    if unknown := set(table) - _FIELDS:
        raise EngineError(f"{where} has unknown keys: {', '.join(sorted(unknown))}")
    if missing := {"claim", "attack", "guest"} - set(table):
        raise EngineError(f"{where} lacks {', '.join(sorted(missing))}")
    if unknown := {key for line in table.get("journal", ()) for key in line} - _LINE:
        raise EngineError(f"{where} expects what no journal has: {', '.join(sorted(unknown))}")
    try:
        compile(table["attack"], where, "exec")
    except SyntaxError as error:
        raise EngineError(f"{where} is no Python", str(error)) from error
    values = table.pop("values", {"": ""})
    fields = {**table, "journal": tuple(table.get("journal", ())), "states": tuple(table.get("states", ()))}
    for variant, value in values.items():
        yield Case(group, name, **fields, variant=variant, value=value)


def share(cases: Iterable[_Tried], number: int, count: int) -> list[_Tried]:
    """Share `number` of `count`: some attempts of every kind. Together the shares are all attempts."""
    kinds: dict[tuple[str, str], list[_Tried]] = {}
    for case in cases:
        kinds.setdefault((case.group, case.kind), []).append(case)
    return [
        case
        for kind in kinds.values()
        for place, case in enumerate(kind)
        if place % count == number % min(count, len(kind))
    ]
