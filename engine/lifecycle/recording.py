"""Keeping what an `up` looked at and started, for the next `up` of the same words."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.recall.memory import Start, forget, note_program, remember
from engine.recall.watch import Watch
from engine.state.configuration import recorded

if TYPE_CHECKING:
    from engine.build.blueprint import Built
    from engine.lifecycle.intent import Intent, Wishes
    from engine.state.configuration import Running
    from engine.state.instances import Instance
    from engine.state.layout import Layout
    from engine.supervisor.launch import Launch

ENVIRONMENT = "environment"  # where a file's variable has its value (Loaded.variables)
_CHANGES = ("pid", "process", "created")  # of the record, from start to start


class Recorder:
    """Watches an `up` within its block, and `keep` writes down what was seen and started.

    Not what cannot be known again or must not be written down: several sandboxes, special wishes, warnings, files that
    a guest may have written, secrets that a command says, variables of the environment in the file, registries with
    credentials, late services.
    """

    def __init__(self, layout: Layout, words: Sequence[str], *, plain: bool = True) -> None:
        """Without `plain`, the call has more words than those: nothing is kept."""
        self._layout = layout
        self._plain = plain
        self._words = tuple(words)
        state = layout.state
        ours = [layout.cache, layout.runtime, state / "instances", state / "locks", state / "projects"]
        self._watch = Watch(map(str, [*ours, state / "failed", state / "remembered", *_system()]))
        self._start: Start | None = None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        with self._watch if self._plain else contextlib.nullcontext():
            if self._plain:
                note_program(self._watch.looks)
            yield

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """What is read while something is built is no input of the start."""
        with self._watch.paused():
            yield

    def fits(self, intent: Intent, wishes: Wishes, unconfined: bool) -> bool:
        """Whether the start of this intent may be kept."""
        from engine.resolve.registries import credentials_of
        from engine.trust.asks import groups_of

        loaded = intent.member.loaded
        plain = self._plain and dataclasses.replace(wishes, yes=False) == type(wishes)() and not unconfined
        alone = intent.twin is None and loaded.agent_name is None
        secrets = intent.credentials
        said = bool(loaded.warnings or loaded.unnamed or secrets.missing or secrets.places.answers)
        # Values of the user's environment are not for a file that stays.
        said = said or ENVIRONMENT in loaded.variables.values() or bool(credentials_of(groups_of(loaded)))
        return plain and alone and not said and self._watch.looks.whole

    def launched(self, built: Built, launch: Launch, record: Instance, running: Running) -> None:
        """Note what is about to be started."""
        if launch.late:  # they take their time, and write: if one fails, it is not tried twice
            return
        value = dataclasses.asdict(launch)
        value["proxies"] = {}
        value["secrets"] = {**value["secrets"], "environment": {}, "answers": {}}
        plain = {name: each for name, each in record.to_json().items() if name not in _CHANGES}
        entries = [str(path) for path in dict.fromkeys(built.entries.values())]
        self._start = Start(value, plain, recorded(running), sorted(launch.secrets.environment), entries)

    def keep(self) -> None:
        """Write down the start that was noted; what cannot be written is no error, the next `up` reads all again."""
        with contextlib.suppress(Exception):  # the sandbox runs: nothing that goes wrong here is worth a word
            if not self._plain:
                return
            if self._start is None:
                forget(self._layout, self._words)
            else:
                remember(self._layout, self._words, self._start, self._watch.looks)


def _system() -> list[Path]:
    """Python's own modules and the kernel's files: what is read there says nothing about the user's project or host."""
    import sysconfig

    modules = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return [*map(Path, modules), *(path.resolve() for path in map(Path, modules)), Path("/proc"), Path("/sys")]
