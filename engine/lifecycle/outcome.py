"""How an `up` ended for one sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from engine.plan.changes import Change
    from engine.state.instances import Instance

How = Literal["started", "unchanged", "changed", "replaced"]


@dataclass(frozen=True)
class Outcome:
    """A sandbox that runs, after an `up` that took `seconds`. `applied` are the changes to one that ran already."""

    instance: Instance
    how: How
    applied: tuple[Change, ...]
    seconds: float
