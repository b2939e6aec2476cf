"""The build of an `up`: what a sandbox needs is built and held, and the cache is kept within its size."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from engine.errors import EngineError, MachineSilent

if TYPE_CHECKING:
    from engine.build.blueprint import Blueprint, Built
    from engine.build.context import OnFailure
    from engine.cache.holds import Hold
    from engine.cache.store import Store
    from engine.report.reporter import Reporter
    from engine.state.layout import Layout

Started = TypeVar("Started")
ATTEMPTS = 3  # at holding what was found, before somebody prunes it
VARIABLE = "SANDBOX_CACHE_SIZE"


async def prepare(blueprint: Blueprint, reporter: Reporter, hold: Hold, on_failure: OnFailure | None = None) -> Built:
    """Build what the blueprint needs; all of it is in `hold` afterwards. If something was built, the cache is pruned
    to its size, and a note says so. Raises EngineError as `build` does."""
    from engine.build.blueprint import build

    limit = Limit.chosen(blueprint.layout, os.environ)
    for _ in range(ATTEMPTS):
        some = bool(blueprint.plan.to_build)
        built = await build(blueprint, reporter, on_failure)
        hold.add(f"{node.kind}/{node.key}" for node in built.blueprint.chain.graph.order())
        if _is_whole(built):
            if some:
                limit.keep(built.blueprint.store, reporter)
            return built
        blueprint = built.blueprint.again()
    raise EngineError("entries of the cache are removed as fast as they are built", hint="see `sandbox cache ls`")


async def start_whole(
    built: Built, reporter: Reporter, hold: Hold, start: Callable[[Built], Awaitable[Started]]
) -> Started:
    """Start the sandbox. If that fails, every byte of what it was started from is read; if something of it is damaged,
    that is said, built again, and the sandbox is started once more.

    So it is where nothing is damaged and the machine does not answer: under emulation a restored processor has lost its
    timer once in a thousand starts (docs/architecture.md, "A restored machine that does not answer"). Raises
    EngineError as `start` does.
    """
    try:
        return await start(built)
    except EngineError as error:
        reporter.note("reading what it was started from, which may be damaged")  # a busy host takes minutes for that
        damages = await asyncio.to_thread(discard_damaged, built.blueprint)
        if not damages and isinstance(error, MachineSilent):
            reporter.note("nothing of it is damaged, but its machine did not answer: starting it once more")
            return await start(built)
        if not damages:
            raise
        for damage in damages:
            reporter.note(f"damaged in the cache, and built again: {damage}")
        return await start(await prepare(built.blueprint.again(), reporter, hold))


def discard_damaged(blueprint: Blueprint) -> list[str]:
    """Read every byte of the entries that the sandbox needs, and remove the damaged ones; says what was wrong.

    Takes some seconds: call it in a thread. One on which the disk of another sandbox stands is left as it is.
    """
    from engine.cache.condition import examine
    from engine.cache.holds import removal_lock
    from engine.cache.needs import disks_upon

    store, found = blueprint.store, []
    for node in blueprint.chain.graph.order():
        entry = store.entry(node.kind, node.key)
        if entry is None or (damage := examine(entry.path)) is None:
            continue
        with removal_lock(store.layout):
            if not disks_upon(store.layout).get(f"{node.kind}/{node.key}"):
                store.remove(node.kind, node.key)
                found.append(f"{node.title} ({damage})")
    return found


def _is_whole(built: Built) -> bool:
    """Whether all entries are still there, and with the machine's disk everything below it."""
    blueprint = built.blueprint
    node = blueprint.chain.graph.nodes[blueprint.chain.ready]
    found = blueprint.store.find(node.kind, node.key)
    return found is not None and all(path.is_dir() for path in built.entries.values())


class Limit:
    """How much of the disk the cache may take: `size` bytes; None for the default, a third of what there is for it."""

    def __init__(self, size: int | None, *, none: bool = False) -> None:
        self.size = size
        self.none = none

    @classmethod
    def chosen(cls, layout: Layout, environment: Mapping[str, str]) -> Limit:
        """What the variable SANDBOX_CACHE_SIZE says, else the user's config.yaml, else the default.

        Raises EngineError (exit code 2) for what is no size, and as `load_habits` does.
        """
        from engine.lifecycle.own_habits import NO_LIMIT, load_habits, parse_limit

        text, where = environment.get(VARIABLE), VARIABLE
        if not text:
            path = layout.config / "config.yaml"
            text, where = (load_habits(path).cache_size if path.exists() else None), str(path)
        if not text:
            return cls(None)
        try:
            return cls(parse_limit(text), none=text == NO_LIMIT)
        except ValueError as error:
            raise EngineError(f"{where}: {text!r} {error}", exit_code=2) from None

    def bytes(self, store: Store) -> int | None:
        """The limit in bytes as things are now; None for none."""
        from engine.cache.pruning import default_limit

        if self.none:
            return None
        return self.size if self.size is not None else default_limit(store)

    def keep(self, store: Store, reporter: Reporter) -> None:
        """Remove what was used least recently, until the cache fits. What cannot be removed is no error."""
        from engine.cache.pruning import Wanted, prune
        from engine.report.sizes import size

        limit = self.bytes(store)
        if limit is None or sum(entry.size for entry in store.entries()) <= limit:
            return
        try:
            removed = prune(store, Wanted(size=limit))
        except (EngineError, OSError) as error:
            reporter.note(f"the cache is larger than {size(limit)}, and was not pruned: {error}")
            return
        if removed.entries:
            days = (datetime.now(UTC) - max(entry.last_used for entry in removed.entries)).days
            when = f"not used for {days} days" if days > 1 else "used least recently"
            reporter.note(
                f"the cache may take {size(limit)}: {len(removed.entries)} entries {when} were removed"
                f" ({size(removed.bytes)}; `sandbox cache ls`)"
            )
