"""`build`: everything that an `up` would build, and no machine for the user."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.lifecycle.audience import Audience
from engine.lifecycle.members import Member, Members

if TYPE_CHECKING:
    from engine.build.blueprint import Blueprint
    from engine.build.image.build import Place
    from engine.state.layout import Layout


@dataclass(frozen=True)
class Ready:
    """The sandbox of a file, built: `nodes` says of each whether it was built just now or was in the cache."""

    name: str
    snapshot: str
    nodes: Mapping[str, str]
    seconds: float

    @property
    def built(self) -> int:
        return sum(how == "built" for how in self.nodes.values())

    def to_json(self) -> dict[str, Any]:
        nodes = [{"id": name, "action": how} for name, how in self.nodes.items()]
        return {
            "version": 1,
            "name": self.name,
            "snapshot": self.snapshot,
            "built": self.built,
            "seconds": round(self.seconds, 1),
            "nodes": nodes,
        }


def agreed_blueprints(
    members: Members, layout: Layout, audience: Audience, *, place: Place = "auto", yes: bool = False
) -> list[tuple[Member, Blueprint]]:
    """Check the file, ask for agreement as `up` does, and plan. Nothing is built yet. No secret is read.

    Raises SandboxfileError and EngineError; EngineError also when the user does not agree, with exit code 2 where
    nobody can be asked.
    """
    from engine.build.blueprint import Blueprint
    from engine.resolve.preflight import check_host
    from engine.trust.agreement import agree

    for member in members.each:
        check_host(member.loaded, ports=False)
    audience.found(members.whole.warnings, members.whole.path)
    agree(members.whole, layout, audience.ask, yes=yes, tell=audience.agreed_unseen)
    blueprints: dict[int, Blueprint] = {}
    for member in members.each:
        if id(member.loaded) not in blueprints:
            blueprint = blueprints[id(member.loaded)] = Blueprint.of(member.loaded, layout, place)
            if blueprint.plan.to_build:
                audience.building(blueprint.plan)
    return [(member, blueprints[id(member.loaded)]) for member in members.each]


async def build_members(planned: list[tuple[Member, Blueprint]], audience: Audience) -> list[Ready]:
    """Build what is missing, one sandbox after another. Raises EngineError; what is built by then stays."""
    from engine.cache.holds import hold_entries
    from engine.lifecycle.preparation import prepare

    found = []
    for member, blueprint in planned:
        began = time.monotonic()
        with audience.reporter() as reporter, hold_entries(blueprint.layout) as hold:
            built = await prepare(blueprint, reporter, hold, audience.on_failure)
        before = {step.id: step.action for step in blueprint.plan.steps}
        words = {"cached": "cached", "build": "built", "not needed": "not needed"}
        nodes = {node.id: words[before.get(node.id, "build")] for node in built.blueprint.chain.graph.order()}
        found.append(Ready(member.name, str(built.snapshot), nodes, time.monotonic() - began))
    return found
