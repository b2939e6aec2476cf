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
    """A sandbox that runs. `applied` is what was changed about one that ran already; `seconds` is from `up`'s start."""

    instance: Instance
    how: How
    applied: tuple[Change, ...]
    seconds: float
