"""What becomes of a sandbox whose start has failed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.state.instances import forget_instance, load_instance, save_instance

if TYPE_CHECKING:
    from engine.state.layout import Layout


def keep_as_failed(layout: Layout, name: str, error: EngineError) -> str | None:
    """Keep the sandbox in the state "failed". Returns a hint about it, None where it has no record yet."""
    with contextlib.suppress(EngineError, OSError):  # why the start has failed is what is to be told
        if (record := load_instance(layout, name)) is not None:
            save_instance(layout, record._replace(state="failed", error=error.brief))
            where = layout.instance(name).directory
            return (
                f"it is kept in {where}: `sandbox console {name}` shows its console, `sandbox down {name}` removes it"
            )
    return None


def leave_evidence(layout: Layout, name: str) -> str | None:
    """Remove the sandbox, except for its logs. Returns a hint about those, None where there are none."""
    from engine.state.evidence import keep_evidence

    kept = None
    with contextlib.suppress(OSError):  # the start may have failed because the disk is full
        kept = keep_evidence(layout, name)
    with contextlib.suppress(EngineError, OSError):
        forget_instance(layout, name)
    return (
        f"console, journal and log of this start are in {kept}; `sandbox console {name}` shows the first"
        if kept
        else None
    )
