"""One thing that must hold on the host's side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.attacks.case import HOST, Case
from engine.attacks.trial import Trial


class NotTried(Exception):
    """It cannot be tried on this host; says why."""


@dataclass(frozen=True)
class Check:
    """`look` yields what is wrong, if anything is. No `states`: it is looked at in each, but where `states.py` says
    why it is not. Of those that differ in `variant` only, a state beside `fresh` has some.
    """

    group: str
    kind: str
    claim: str
    look: Callable[[Trial], Iterator[str]]
    states: tuple[str, ...] = ()
    variant: str = ""

    @property
    def case(self) -> Case:
        return Case(self.group, self.kind, self.claim, "", "", needs=HOST, states=self.states, variant=self.variant)
