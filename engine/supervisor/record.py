"""The record of this supervisor's sandbox, which follows what the sandbox is: also with a full disk."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from engine.errors import EngineError
from engine.secrets.redaction import redact_held
from engine.state.instances import Instance, load_instance, save_instance
from engine.state.layout import Layout

RETRY_S = 2.0  # no kernel tells of room that has come
_owed: dict[str, dict[str, Any]] = {}  # by sandbox: what its record should say already
_following: dict[str, asyncio.Task[None]] = {}


def update_record(layout: Layout, record: Instance, **changes: Any) -> Instance:
    """Write the record with these changes, as it is by now otherwise: `up` adds our pid to it while we start.

    What has no room on the disk is written when there is some, as long as this process lives.
    """
    told: dict[str, Any] = _owed.pop(record.name, {})
    told |= {key: redact_held(value) if isinstance(value, str) else value for key, value in changes.items()}
    changed = record._replace(**told)
    try:
        changed = (load_instance(layout, record.name) or record)._replace(**told)
        save_instance(layout, changed)
    except (EngineError, OSError):
        # A full disk, or no descriptors: what the machine is does not wait for that, and the record follows.
        _owed[record.name] = told
        _follow(layout, record)
    return changed


def _follow(layout: Layout, record: Instance) -> None:
    """Write what is owed as soon as it can be written."""
    if record.name not in _following:
        _following[record.name] = asyncio.create_task(_write_owed(layout, record))


async def _write_owed(layout: Layout, record: Instance) -> None:
    try:
        while record.name in _owed:
            await asyncio.sleep(RETRY_S)
            # What is owed now: meanwhile it may have been written with something newer, or have become more.
            if (owed := _owed.get(record.name)) is not None:
                with contextlib.suppress(EngineError, OSError):
                    save_instance(layout, (load_instance(layout, record.name) or record)._replace(**owed))
                    del _owed[record.name]
    finally:
        del _following[record.name]
