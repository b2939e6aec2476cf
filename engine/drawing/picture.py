"""What is drawn: the parts of one sandbox, and what each of them needs. No output format is known here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import networkx

# Parts that are built once and cached are `cached`, to `build`, or `not needed` because what needs them is cached. Each
# `up` makes the `each up` parts anew. `declared` parts are only declarations of the file.
State = Literal["cached", "build", "not needed", "each up", "declared"]

_MANY = ("secret", "endpoint", "mount", "port")  # kinds of which a file may have hundreds of parts
_DRAWN = 12  # the number of parts of such a kind that are drawn


@dataclass(frozen=True)
class PicturePart:
    """One part of a picture. `needs` are the ids of parts before it; `note` says more than the title."""

    id: str
    kind: str
    title: str
    state: State
    needs: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """All parts of one sandbox, each after those that it needs. Their texts are single lines that are safe to print."""

    name: str
    parts: tuple[PicturePart, ...]

    def to_json(self) -> dict[str, Any]:
        rows = [{**vars(part), "needs": list(part.needs)} for part in self.parts]
        return {"name": self.name, "parts": rows}

    @cached_property
    def lines(self) -> Mapping[str, tuple[str, ...]]:
        """For each part, the parts from which a line leads to it: its needs, except those that another need implies."""
        return {
            part.id: tuple(need for need in dict.fromkeys(part.needs) if self._reduced.has_edge(need, part.id))
            for part in self.parts
        }

    @cached_property
    def layers(self) -> Mapping[str, int]:
        """The row of each part, counted from 0: below all parts that it needs, and right above those that need it."""
        rows = enumerate(networkx.topological_generations(self._reduced))
        row = {id: number for number, ids in rows for id in ids}
        for part in reversed(self.parts):
            row[part.id] = min((row[heir] for heir in self._reduced.successors(part.id)), default=row[part.id] + 1) - 1
        return row

    @cached_property
    def _reduced(self) -> networkx.DiGraph[str]:
        graph: networkx.DiGraph[str] = networkx.DiGraph()
        graph.add_nodes_from(part.id for part in self.parts)
        graph.add_edges_from((need, part.id) for part in self.parts for need in part.needs)
        return networkx.transitive_reduction(graph)

    def condensed(self) -> Picture:
        """This picture with at most _DRAWN parts of a kind: the rest are one part that says how many they are."""
        drawn = self.parts
        for kind in _MANY:
            same = [part for part in drawn if part.kind == kind]
            if len(same) > _DRAWN:
                drawn = _merge(drawn, same[_DRAWN - 1 :])
        return Picture(self.name, drawn)


def _merge(parts: tuple[PicturePart, ...], rest: list[PicturePart]) -> tuple[PicturePart, ...]:
    """The parts, with all of `rest`, which are of one kind, replaced by one part in the place of the last one."""
    gone = {part.id for part in rest}
    last = rest[-1]
    needs = tuple(dict.fromkeys(need for part in rest for need in part.needs))
    one = replace(last, title=f"and {len(rest)} more", needs=needs, note="")
    kept = []
    for part in parts:
        if part.id not in gone or part is last:
            renamed = (last.id if need in gone else need for need in part.needs)
            kept.append(one if part is last else replace(part, needs=tuple(dict.fromkeys(renamed))))
    return tuple(kept)
