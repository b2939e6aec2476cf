"""What an `up` is going to do with one sandbox. It is decided and checked before anything is changed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
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
    """The options of an `up`, except for the file and the name. `for_task`: one task for the agent, which
    needs its credential then; nothing of it is kept, and no port is published."""

    yes: bool = False
    recreate: bool = False
    keep_failed: bool = False
    build_in: Place = "auto"
    unconfined_mounts: bool = False
    for_task: bool = False


@dataclass(frozen=True)
class Intent:
    """What an `up` is going to do with the sandbox of `member`.

    `twin` is the intent of another sandbox that is the same but for its name: it has read the secrets already.
    `before` is the sandbox as `up` found it. `comparison` compares the running sandbox with the file; it is None when
    the sandbox does not run, or is replaced whatever has changed.
    """

    member: Member
    layout: Layout
    place: Place
    before: Listed
    comparison: Comparison | None
    twin: Intent | None = None

    @property
    def name(self) -> str:
        return self.member.name

    @cached_property
    def blueprint(self) -> Blueprint:
        """The blueprint of the sandbox. Raises EngineError.

        For a sandbox that does not run, it is made at the first use, which is after the user has agreed.
        """
        if self.comparison is not None:
            return self.comparison.blueprint
        from engine.build.blueprint import Blueprint

        return Blueprint.of(self.member.loaded, self.layout, self.place)

    @cached_property
    def credentials(self) -> Credentials:
        """The file's secrets, read at their first use, after the user has agreed. That of the agent may be missing.

        Raises SecretError for others.
        """
        if self.twin is not None:
            return self.twin.credentials
        from engine.lifecycle.credentials import read_credentials
        from engine.lifecycle.sign_in import optional_secrets

        return read_credentials(self.member.loaded, self.layout, optional_secrets(self.member.loaded))

    def with_credentials(self) -> Intent:
        """The same, with a change for each secret of a running sandbox that is of another kind now.

        Looks at no secret that a command of the user's would be asked for: its supervisor asks that itself. What has no
        value just now, such as a variable of another terminal, is as it was.
        """
        from engine.lifecycle.credentials import compare_kinds

        comparison = self.comparison
        if comparison is None or comparison.running is None or self.doing == "replace":
            return self
        with contextlib.suppress(EngineError):
            found = compare_kinds(self.member.loaded, self.layout, comparison.running.kinds)
            return replace(self, comparison=replace(comparison, changes=(*comparison.changes, *found)))
        return self

    @property
    def changes(self) -> tuple[Change, ...]:
        """The differences between the running sandbox and its file; none when they were not compared."""
        return self.comparison.changes if self.comparison else ()

    @property
    def doing(self) -> Doing:
        """What `up` does: start the sandbox, leave it as it is, change it while it runs, or replace it."""
        from engine.plan.changes import needs_new_machine

        if self.comparison is None:
            return "replace" if self.before.liveness in ("starting", "running", "unresponsive") else "start"
        if not self.changes:
            return "leave"
        return "replace" if needs_new_machine(self.changes) else "change"


def intend(member: Member, layout: Layout, wishes: Wishes) -> Intent:
    """Decide what to do, after a look at the sandbox and the host.

    Raises SandboxfileError and EngineError when the file asks for something that this host cannot do.
    """
    from engine.lifecycle.stop import can_start
    from engine.resolve.preflight import check_host
    from engine.state.instances import look_up

    before = look_up(layout, member.name)
    if before.liveness == "paused" and not wishes.recreate:
        raise EngineError(
            f"{member.name} is paused", hint=f"`sandbox resume {member.name}` wakes it, `up --recreate` replaces it"
        )
    if can_start(layout, before) and not wishes.recreate:  # its disk is kept; nobody has said that it may go
        raise EngineError(
            f"{member.name} is stopped", hint=f"`sandbox start {member.name}` starts it, `up --recreate` replaces it"
        )
    alive = before.instance if before.liveness in ("starting", "running") else None
    held = [port["host"] for port in alive.ports] if alive else ()
    check_host(member.loaded, ports=not wishes.for_task, held=held)
    running = None if wishes.recreate else _running(before)
    if running is None:
        from engine.resolve.registries import ask_ahead
        from engine.trust.asks import groups_of

        ask_ahead(groups_of(member.loaded))
        return Intent(member, layout, wishes.build_in, before, None)
    from engine.build.blueprint import Blueprint  # here, since the import takes a while and a bad file ends before it
    from engine.lifecycle.change import compare_running

    blueprint = Blueprint.of(member.loaded, layout, wishes.build_in)
    return Intent(member, layout, wishes.build_in, before, compare_running(blueprint, member.name))


def _running(listed: Listed) -> Instance | None:
    if listed.liveness == "unresponsive":
        raise EngineError(
            f"{listed.name} is {listed.status}", hint=f"`sandbox down {listed.name}` ends it, then `sandbox up`"
        )
    return listed.instance if listed.liveness == "running" else None
