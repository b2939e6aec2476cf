"""From a checked file to running sandboxes, in three steps: look, ask, carry out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.lifecycle.audience import Audience, Replacement
from engine.lifecycle.intent import Intent, Wishes, intend
from engine.lifecycle.outcome import How, Outcome

if TYPE_CHECKING:
    from engine.lifecycle.members import Members
    from engine.lifecycle.recording import Recorder
    from engine.report.reporter import Reporter
    from engine.state.instances import Instance
    from engine.state.layout import Layout

LOST = "what is only on the guest's own disk is lost"


@dataclass(frozen=True)
class Agreed:
    """What `carry_out` does: it is checked, and the user has agreed to it. `began` is a monotonic time."""

    intents: tuple[Intent, ...]
    wishes: Wishes
    unconfined_mounts: bool
    began: float


@contextlib.contextmanager
def agreed(members: Members, layout: Layout, wishes: Wishes, audience: Audience) -> Iterator[Agreed]:
    """Check everything that can be wrong with the sandboxes of a file, and ask the user for agreement.

    Within the block this process holds the names of the sandboxes; nothing has been started, built or changed when it
    begins. This is no coroutine, so that the user may think as long as they like, and ^C ends the question. Raises
    SandboxfileError and EngineError; EngineError also when the user does not agree, with exit code 2 where nobody can
    be asked.
    """
    from engine.state.instances import claim

    began = time.monotonic()
    audience.phase("checking the file against this host")
    with contextlib.ExitStack() as stack:
        for member in members.each:
            stack.enter_context(claim(layout, member.name, member.loaded.project))
        intents = _intents(members, layout, wishes)
        audience.found(members.whole.warnings, members.whole.path)
        unconfined = False
        if any(intent.doing != "leave" for intent in intents):
            from engine.trust.agreement import agree

            unconfined = agree(
                members.whole,
                layout,
                audience.ask,
                yes=wishes.yes,
                unconfined=wishes.unconfined_mounts,
                tell=audience.agreed_unseen,
            )
        intents = tuple(intent.with_credentials() for intent in intents)
        _agree_to_replace(intents, wishes, audience)
        for intent in intents:
            if intent.twin is not None:
                continue
            if intent.doing != "leave":
                _sign_in(intent, wishes, audience)  # a missing secret is told of before anything is built
            if intent.doing in ("start", "replace") and intent.blueprint.plan.to_build:
                audience.building(intent.blueprint.plan)
        yield Agreed(intents, wishes, unconfined, began)


def _intents(members: Members, layout: Layout, wishes: Wishes) -> tuple[Intent, ...]:
    first: dict[int, Intent] = {}
    found = []
    for member in members.each:
        intent = intend(member, layout, wishes)
        twin = first.setdefault(id(member.loaded), intent)
        found.append(intent if twin is intent else replace(intent, twin=twin))
    return tuple(found)


def _sign_in(intent: Intent, wishes: Wishes, audience: Audience) -> None:
    """Raises EngineError where the agent needs a credential that is missing, or the user wants to set it first."""
    from engine.lifecycle.sign_in import missing_credential

    missing = missing_credential(intent.name, intent.member.loaded, intent.credentials)
    if missing is None:
        return
    if wishes.for_task:
        raise missing.error()
    if not wishes.yes and (answer := audience.ask(missing)) is not None:
        if not answer:
            raise EngineError("nothing was started", hint=missing.hint)
        return
    audience.lacks(missing)


async def carry_out(plan: Agreed, audience: Audience, recorder: Recorder | None = None) -> list[Outcome]:
    """Make the sandboxes run, one after another. Raises EngineError; the sandboxes that are up by then stay up.

    `recorder` keeps what was started, so that the next `up` is faster.
    """
    outcomes = []
    for intent in plan.intents:
        outcomes.append(await _carry_out(intent, plan, audience, recorder))
        audience.is_up(outcomes[-1])
    return outcomes


def _agree_to_replace(intents: Sequence[Intent], wishes: Wishes, audience: Audience) -> None:
    for intent in intents:
        if intent.doing != "replace" or wishes.yes or wishes.recreate:
            if intent.changes:
                audience.changing(intent.name, intent.changes)
            continue
        answer = audience.ask(Replacement(intent.name, intent.changes))
        if answer is None:
            from engine.plan.changes import render

            raise EngineError(
                f"{intent.name} runs, needs a new machine, and nobody is here to approve that: nothing was changed",
                details=render(intent.changes),
                hint=f"`--yes` or `--recreate` replaces it; {LOST}",
                exit_code=2,
            )
        if not answer:
            raise EngineError("not approved: nothing was changed")


async def _carry_out(intent: Intent, plan: Agreed, audience: Audience, recorder: Recorder | None) -> Outcome:
    before = intent.before.instance
    how: How
    match intent.doing:
        case "leave":
            assert before is not None, "a sandbox that runs has a record"
            instance, how = before, "unchanged"
        case "change":
            instance, how = await _change(intent, audience), "changed"
        case "start":
            instance, how = await _build_and_start(intent, plan, audience, recorder), "started"
        case "replace":
            instance, how = await _build_and_start(intent, plan, audience), "replaced"
    return Outcome(instance, how, intent.changes, time.monotonic() - plan.began)


async def _change(intent: Intent, audience: Audience) -> Instance:
    from engine.lifecycle.change import apply_changes

    before, comparison = intent.before.instance, intent.comparison
    assert before is not None and comparison is not None
    with audience.reporter() as reporter, _node(reporter, intent.name) as line:
        return await apply_changes(before, comparison, line, intent.credentials)


async def _build_and_start(
    intent: Intent, plan: Agreed, audience: Audience, recorder: Recorder | None = None
) -> Instance:
    from engine.build.blueprint import build
    from engine.lifecycle.down import take_down
    from engine.lifecycle.start import start

    blueprint, name = intent.blueprint, intent.name
    with audience.reporter() as reporter:
        audience.phase("building what is not cached")
        with recorder.building() if recorder is not None else contextlib.nullcontext():
            built = await build(blueprint, reporter, audience.on_failure)
        if intent.before.instance is not None:  # after the build: if it fails, the old sandbox goes on running
            reporter.note(f"removing the previous {name} ({intent.before.status})")
            if (lost := await take_down(blueprint.layout, intent.before)) is not None:
                reporter.note(f"what was to be kept of its agent is as it was before: {lost}")
        audience.phase("starting the supervisor")
        kept = recorder is not None and recorder.fits(intent, plan.wishes, plan.unconfined_mounts)
        with _node(reporter, name) as line:
            started = await start(
                built,
                name,
                line,
                credentials=intent.credentials,
                keep_failed=plan.wishes.keep_failed,
                unconfined_mounts=plan.unconfined_mounts,
                for_task=plan.wishes.for_task,
                # A blueprint of files that changed meanwhile is not what was looked at.
                on_step=audience.phase,
                on_launch=recorder.launched if recorder and kept and built.blueprint is blueprint else None,
            )
        if recorder is not None:
            recorder.keep()
        return started.instance


@contextlib.contextmanager
def _node(reporter: Reporter, name: str) -> Iterator[Callable[[str], None]]:
    """Show the sandbox itself as one of the reporter's nodes. Yields a function that takes its lines."""
    reporter.node_started(name, f"sandbox {name}")
    began = time.monotonic()
    try:
        yield lambda text: reporter.node_line(name, text)
    except BaseException as error:
        reporter.node_failed(name, getattr(error, "brief", "interrupted"), time.monotonic() - began)
        raise
    reporter.node_finished(name, time.monotonic() - began)
