"""The values of one sandbox's secrets, in the memory of its supervisor and nowhere else.

They are read at the start, all or none, and again while it runs: what the user changes counts from the next request on,
what is removed is gone at once. A variable cannot change: the process has its environment from the start.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from engine.secrets.core_dumps import forbid_core_dumps
from engine.secrets.errors import SecretError
from engine.secrets.redaction import hold, outdate, redact_held
from engine.secrets.sources import (
    CommandUnanswered,
    Source,
    check_value,
    needed_environment,
    read_first,
    read_source,
)
from engine.secrets.store import SESSION, Entry, Stamp, Store, stamp_of

LOOK_S = 1.0  # between two looks into a file that seems to be as it was: clocks of file systems are coarse
KEYRING_S = 60.0  # between two questions to the keyring about an entry that we have not changed ourselves


class Vault:
    """Reads `sources` (secret name -> where it may be, in that order) and hands out values.

    `environment` is what `needed_environment` says. `tell` hears, without values, of warnings and of secrets that lose
    or get a value; it is called from any thread. `answers` are what commands have said just now. Raises SecretError
    when one has no value, except for `missing`: these may get one later, where the user keeps it. Core dumps of this
    process are off from now on.
    """

    def __init__(
        self,
        sources: Mapping[str, Sequence[Source]],
        environment: Mapping[str, str],
        store: Store,
        tell: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
        answers: Mapping[str, str] | None = None,
        missing: Sequence[str] = (),
    ) -> None:
        forbid_core_dumps()
        used = [source for each in sources.values() for source in each]
        environment = needed_environment(used, environment)
        if any(source.kind == "keyring" for source in used):
            os.environ.update({name: environment[name] for name in SESSION if name in environment})
        self._secrets: dict[str, _Secret] = {}
        for name, each in sources.items():
            command = next((source for source in each if source.kind == "command"), None)
            value: str | None
            if name in missing:
                value, source = None, each[-1]
            elif command is not None and (answer := (answers or {}).get(name)) is not None:
                value, source = hold(answer), command
            else:
                value, source = read_first(name, each, environment, store, tell)
            self._secrets[name] = _Secret(name, source, value, environment, store, tell, clock)

    def value(self, name: str) -> str | None:
        """The value of this moment; None for a secret that is not known, or that has lost it.

        Never waits for the keyring or a command: they are asked aside, and what they say counts from then on.
        """
        secret = self._secrets.get(name)
        return secret.value() if secret is not None else None

    def renew(self, values: Mapping[str, str]) -> None:
        """New values of secrets, which count from now on; `keep` is what writes them down.

        Raises SecretError for one that cannot be sent in a header.
        """
        for name, value in values.items():
            check_value(value, f"the renewed {name}")
        for name, value in values.items():
            if (secret := self._secrets.get(name)) is not None:
                secret.renew(value)

    def keep(self, names: Iterable[str]) -> None:
        """Put renewed values where the old ones came from, if that is ours. May wait for the keyring.

        What goes wrong is told: the value is then in memory, and lost with it.
        """
        for name in names:
            if (secret := self._secrets.get(name)) is not None:
                secret.keep()

    def names(self) -> tuple[str, ...]:
        return tuple(self._secrets)

    def settle(self, timeout_s: float) -> None:
        """Wait until nobody is asked aside any more, up to `timeout_s` for each secret."""
        for secret in self._secrets.values():
            secret.settle(timeout_s)

    def redact(self, text: str) -> str:
        """The text without the values, also those of earlier."""
        return redact_held(text)

    def __repr__(self) -> str:
        return f"Vault({', '.join(self._secrets)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a vault stays in its process")


class _Secret:
    """One secret: the source that had it at the start, and what it says now."""

    def __init__(
        self,
        name: str,
        source: Source,
        value: str | None,
        environment: Mapping[str, str],
        store: Store,
        tell: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._source = source
        self._value: str | None = value
        self._environment = environment
        self._store = store
        self._tell = tell
        self._clock = clock
        self._looked = self._asked = clock()
        self._stamp: Stamp | None = None  # none that a file has: the first look is a real one
        self._entry = self._find() if source.kind == "keyring" else None
        self._asking: threading.Thread | None = None
        self._generation = 0
        self._superseded: str | None = None  # what the source may still say of a value that was renewed
        self._lock = threading.Lock()  # between who asks aside and who has just seen that the answer is an old one

    def __repr__(self) -> str:
        return f"_Secret({self._name})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret stays in its process")

    def value(self) -> str | None:
        now = self._clock()
        if self._source.kind == "command":
            if now - self._asked >= self._source.every_s:
                self._ask_aside(now)
        elif self._source.kind != "env" and ((stamp := self._see()) != self._stamp or now - self._looked >= LOOK_S):
            self._looked, self._stamp = now, stamp
            if self._source.kind == "file":
                self._take(*self._read())
            else:
                self._look_at_entry(now)
        return self._value

    def renew(self, value: str) -> None:
        with contextlib.suppress(SecretError):  # what cannot be looked at now has not been removed
            if self._source.kind == "keyring" and self._find() is None:
                return
        with self._lock:
            self._generation += 1
            self._superseded, self._value = self._value, value
            self._outdate(self._superseded)
        self._tell(f"the secret {self._name} was renewed")

    def _outdate(self, before: str | None) -> None:
        if before is not None:
            outdate(before)

    def keep(self) -> None:
        value, entry = self._value, self._entry
        if value is None or self._superseded is None:
            return
        why = f"{self._source.label} is not ours to change"
        try:
            if entry is not None and self._source.kind == "keyring":
                if self._store.renew(self._source.where, value, entry):
                    return
                why = f"{self._source.label} was changed meanwhile"
        except SecretError as error:
            why = error.brief
        self._tell(f"the renewed secret {self._name} is in memory only, and lost when this sandbox stops: {why}")

    def _see(self) -> Stamp | None:
        return self._store.stamp() if self._source.kind == "keyring" else stamp_of(Path(self._source.where))

    def settle(self, timeout_s: float) -> None:
        if (thread := self._asking) is not None:
            thread.join(timeout_s)

    def _look_at_entry(self, now: float) -> None:
        """What is kept may be another value, or gone; also somebody may have changed it in the keyring itself."""
        try:
            entry = self._find()
        except SecretError as error:
            self._take(None, error.brief)
            return
        changed, self._entry = entry != self._entry, entry
        with self._lock:
            if changed:
                self._generation += 1  # what is still being asked for is no answer any more
            if entry is None:
                self._take(None, f"{self._source.label} was removed")
                return
        if entry.place == "file":
            self._take(*self._read())
        elif changed or now - self._asked >= KEYRING_S:
            self._ask_aside(now, again=changed)

    def _find(self) -> Entry | None:
        return self._store.find(self._source.where)

    def _ask_aside(self, now: float, *, again: bool = False) -> None:
        if self._asking is not None and self._asking.is_alive() and not again:
            return
        self._asked = now
        thread = threading.Thread(target=self._ask, args=(self._generation,), name="secrets", daemon=True)
        self._asking = thread
        thread.start()

    def _ask(self, generation: int) -> None:
        value, reason = self._read()
        with self._lock:
            if generation == self._generation:
                self._take(value, reason)

    def _read(self) -> tuple[str | None, str]:
        """The value, or None and why. A command that did not answer has taken nothing back."""
        try:
            return read_source(self._source, self._environment, self._store), ""
        except CommandUnanswered as error:
            return self._value, error.brief
        except SecretError as error:
            return None, error.brief

    def _take(self, value: str | None, reason: str) -> None:
        if value is not None and value == self._superseded:
            return
        before, self._value = self._value, value
        if value != before:
            self._outdate(before)
        if value is None and before is not None:
            self._tell(f"the secret {self._name} has no value any more: {reason}")
        elif value is not None and before is None:
            self._tell(f"the secret {self._name} has a value again")
        elif value != before:
            self._tell(f"the secret {self._name} has a new value")
