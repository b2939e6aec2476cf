"""What `up` would do with one sandbox. Nothing here changes anything."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.build.blueprint import Blueprint
from engine.lifecycle.agent_outlook import AgentOutlook, look_at_agent
from engine.lifecycle.change import compare_running
from engine.plan.build_plan import Plan
from engine.plan.changes import Change, needs_new_machine, render
from engine.report.text import clean_line
from engine.resolve.mounts_and_ports import wanted_mounts
from engine.state.instances import check_owner, look_up
from engine.workspaces.mount_point import MountPoint
from sandboxfile.quantities import format_size
from vmm.processor_share import DEFAULT, look

if TYPE_CHECKING:
    from engine.lifecycle.members import Member
    from engine.state.layout import Layout

MOST_NAMED = 6  # read-only paths of a mount in its line


@dataclass(frozen=True)
class Outlook:
    """What `up` would build and change.

    `changes` is None when the sandbox does not run.
    """

    name: str
    plan: Plan
    changes: tuple[Change, ...] | None
    agent: AgentOutlook | None = None
    mounts: tuple[MountPoint, ...] = ()
    weight: int = DEFAULT

    def to_json(self) -> dict[str, Any]:
        running = None
        if self.changes is not None:
            running = {"name": self.name, "changes": [change.to_json() for change in self.changes]}
        return {
            **self.plan.to_json(),
            "agent": self.agent.to_json() if self.agent is not None else None,
            "running": running,
            "mounts": [dataclasses.asdict(mount) for mount in self.mounts],
            "cpu_weight": {"weight": self.weight, **look(self.weight)._asdict()},
        }

    def render(self) -> str:
        """The plan, the agent, the mounts, and what `up` will change about the running sandbox."""
        agent = f"{self.agent.render()}\n" if self.agent is not None else ""
        parts = (agent, self._mounts(), self._processors(), self._running())
        return self.plan.render() + "".join(f"\n{part}" for part in parts if part)

    def _mounts(self) -> str:
        """What the guest cannot see or change in each mount, and what it has of its own there, in one line each."""
        lines = []
        for mount in self.mounts:
            hidden = f"hidden: {', '.join(mount.hide)}" if mount.hide else ""
            kept = f"read-only: {_short(mount.protected)}" if mount.protected else ""
            local = f"on the guest's own disk: {', '.join(mount.local)}" if mount.local else ""
            limit = f"the machine may add {format_size(mount.limit)}" if mount.limit is not None else ""
            if words := "; ".join(filter(None, (hidden, local, limit, kept))):
                lines.append(clean_line(f"{mount.target}  {words}") + "\n")
        return "".join(lines)

    def _processors(self) -> str:
        """By what its share of the processors is kept; nothing for the share of everybody."""
        if self.weight == DEFAULT:
            return ""
        kept = look(self.weight)
        return f"{kept.warning or f'processors  weight {self.weight}, in a control group of its own'}\n"

    def _running(self) -> str:
        if self.changes is None:
            return f"{self.name} does not run: `up` starts it\n"
        if not self.changes:
            return f"{self.name} runs, unchanged\n"
        lines = f"{self.name} runs; `up` would change:\n{render(self.changes)}"
        if needs_new_machine(self.changes):
            return f"{lines}This needs a new machine; what is only on the guest's own disk is lost.\n"
        if self.plan.to_build:
            lines += "What is to build is for its next start: nothing of it is needed now.\n"
        return lines


def look_ahead(member: Member, layout: Layout) -> Outlook:
    """Look at the sandbox and make its plan; changes nothing. Raises EngineError, also for another project's name."""
    listed = look_up(layout, member.name)
    check_owner(listed.instance, member.loaded.project)
    blueprint = Blueprint.of(member.loaded, layout)
    runs = listed.liveness in ("running", "unresponsive")
    changes = compare_running(blueprint, member.name).changes if runs else None
    agent = look_at_agent(member.loaded, blueprint)
    return Outlook(
        member.name, blueprint.plan, changes, agent, _mounts(member), member.loaded.sandbox.machine.cpu_weight
    )


def _mounts(member: Member) -> tuple[MountPoint, ...]:
    try:
        return wanted_mounts(member.loaded)
    except (OSError, RuntimeError):
        return ()  # `up` says which directory there is not


def _short(paths: tuple[str, ...]) -> str:
    """The first of them, git's hooks and configuration before the others."""
    named = sorted(paths, key=lambda path: (not path.endswith((".git/hooks", ".git/config")), path))
    return ", ".join(named[:MOST_NAMED]) + (f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else "")
