"""What one `up` is going to do with one sandbox: decided and checked before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.build.blueprint import Blueprint
    from engine.build.image.build import Place
    from engine.lifecycle.change import Comparison
    from engine.lifecycle.credentials import Credentials
    from engine.lifecycle.members import Member
    from engine.plan.changes import Change
    from engine.state.instances import Instance, Listed
    from engine.state.layout import Layout

Doing = Literal["start", "leave", "change", "replace"]


@dataclass(frozen=True)
class Wishes:
    """What the caller says about one `up`, beside which file and name."""

    yes: bool = False
    recreate: bool = False
    keep_failed: bool = False
    build_in: Place = "auto"
    unconfined_mounts: bool = False


@dataclass(frozen=True)
class Intent:
    """`before` is the sandbox as it was found; `comparison` is None unless it runs and is not replaced anyway."""

    member: Member
    layout: Layout
    place: Place
    before: Listed
    comparison: Comparison | None

    @property
    def name(self) -> str:
        return self.member.name

    @cached_property
    def blueprint(self) -> Blueprint:
        """Made when it is first asked for, and only then: of a sandbox that does not run, after the user has agreed.
        Raises EngineError."""
        if self.comparison is not None:
            return self.comparison.blueprint
        from engine.build.blueprint import Blueprint

        return Blueprint.of(self.member.loaded, self.layout, self.place)

    @cached_property
    def credentials(self) -> Credentials:
        """The file's secrets, read at their first use, after the user has agreed. Raises SecretError."""
        from engine.lifecycle.credentials import read_credentials

        return read_credentials(self.member.loaded, self.layout)

    @property
    def changes(self) -> tuple[Change, ...]:
        return self.comparison.changes if self.comparison else ()

    @property
    def doing(self) -> Doing:
        from engine.plan.changes import needs_new_machine

        if self.comparison is None:
            return "replace" if self.before.liveness in ("starting", "running", "unresponsive") else "start"
        if not self.changes:
            return "leave"
        return "replace" if needs_new_machine(self.changes) else "change"


def intend(member: Member, layout: Layout, wishes: Wishes) -> Intent:
    """Look at the sandbox and the host. Raises SandboxfileError and EngineError for everything that can be wrong."""
    from engine.resolve.preflight import check_host
    from engine.state.instances import look_up

    before = look_up(layout, member.name)
    lives = before.instance if before.liveness in ("starting", "running") else None
    check_host(member.loaded, held=[port["host"] for port in lives.ports] if lives else ())
    running = None if wishes.recreate else _running(before)
    if running is None:
        from engine.resolve.registries import ask_ahead
        from engine.trust.asks import groups_of

        ask_ahead(groups_of(member.loaded))
        return Intent(member, layout, wishes.build_in, before, None)
    from engine.build.blueprint import Blueprint  # takes a while: not for a file that is refused
    from engine.lifecycle.change import compare_running

    blueprint = Blueprint.of(member.loaded, layout, wishes.build_in)
    return Intent(member, layout, wishes.build_in, before, compare_running(blueprint, member.name))


def _running(listed: Listed) -> Instance | None:
    if listed.liveness == "unresponsive":
        raise EngineError(
            f"{listed.name} is {listed.status}", hint=f"`sandbox down {listed.name}` ends it, then `sandbox up`"
        )
    return listed.instance if listed.liveness == "running" else None
