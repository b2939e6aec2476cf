"""What a command that was killed has left of its work, found by a record that it wrote before it began.

`under-way.json` in the base of a clone says of each file what it was on the host and in the clone, and what both were
to be. It goes away last, when the base has been recorded.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from engine.clones.applying import PREFIX, Host, Step, return_to
from engine.clones.base import Entry
from engine.files import write_json

UNDER_WAY = "under-way.json"


class Intent(NamedTuple):
    """Of one file: what it was `here` and in the `copy`, and what it was to become. None: there is none."""

    path: str
    here: Entry | None
    copy: Entry | None
    after: Entry | None


@dataclass(frozen=True)
class Record:
    """The record in the base at `directory`."""

    directory: Path

    def write(self, mark: str, steps: Iterable[Step], merged: Iterable[Intent]) -> None:
        """Before anything is done: the steps on the host, in their order, and the files that both sides get merged."""
        moved = [Intent(step.change.path, step.here, None, step.entry) for step in steps if step.acts]
        write_json(self.directory / UNDER_WAY, {"mark": mark, "moved": moved, "merged": list(merged)})

    def remove(self) -> None:
        (self.directory / UNDER_WAY).unlink(missing_ok=True)

    def clean(self, host: Host) -> dict[str, Intent]:
        """Take away what lies beside files of the host, and put back what was only taken from its place.

        Returns the files that were to be merged, by path: one side may have them already.
        """
        try:
            told = json.loads((self.directory / UNDER_WAY).read_text())
            mark, moved, merged = str(told["mark"]), _intents(told["moved"]), _intents(told["merged"])
        except (OSError, ValueError, TypeError, KeyError):
            return {}
        if mark.startswith(PREFIX) and "/" not in mark:
            for number, intent in enumerate(moved):
                for name in (f"{mark}-{number}", f"{mark}-{number}.old"):
                    with contextlib.suppress(OSError):
                        _clean_one(host, intent, name)
        return {intent.path: intent for intent in merged}


def _clean_one(host: Host, intent: Intent, name: str) -> None:
    above, slash, _ = intent.path.rpartition("/")
    place = host.look(intent.path)
    try:
        found = host.look(f"{above}{slash}{name}")
    except IsADirectoryError:  # we make none: somebody's, which was at the place in the moment of the move
        with host.parent(intent.path) as (parent, last):
            if place is not None and place[0].same_as(intent.after):
                return_to(parent, name, last)
            elif place is None:
                os.rename(name, last, src_dir_fd=parent, dst_dir_fd=parent)
        return
    if found is None:
        return
    here, after = intent.here, intent.after
    if place is not None and found[0].same_as(here) and not any(place[0].same_as(one) for one in (here, after)):
        return  # somebody has written there since: both stay
    is_done = place is not None and place[0].same_as(after)
    if name.endswith(".old"):
        is_wanted = (place is None and after is not None) or (is_done and not found[0].same_as(here))
        is_wanted = is_wanted or (place is None and not found[0].same_as(here))
    else:  # ours, perhaps half of it, unless it has changed places with the file
        is_wanted = here is not None and is_done and not any(found[0].same_as(one) for one in (here, after))
    with host.parent(intent.path) as (parent, last):
        if is_wanted:  # it was only taken from its place, or somebody wrote it there in the last moment
            os.rename(name, last, src_dir_fd=parent, dst_dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)


def _intents(told: Sequence[Any]) -> list[Intent]:
    return [Intent(path, *(None if one is None else Entry(*one) for one in entries)) for path, *entries in told]
