"""The credentials of one sandbox: where they are, of which kind, and what its guest holds in their place."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from engine.agents.outfit import Held
from engine.plan.changes import Change
from engine.resolve.secrets import own_source, sources_of, used_secrets
from engine.secrets.errors import SecretError
from engine.secrets.places import SecretPlaces
from engine.secrets.rules import environment, form_of, kind_of, placeholder_for, renewal_for, renewing_name
from engine.secrets.settings import load_settings
from engine.secrets.sources import needed_environment, read_first
from engine.secrets.store import Store
from engine.state.layout import Layout
from sandboxfile import Loaded

_FOUND = "has a value now"


@dataclass(frozen=True)
class Credentials:
    """`kinds` says of each secret that endpoints use which kind of its vendor's credentials the value is; a token that
    renews one is in it under a name of its own (`renewing_name`).

    `missing` are those without a value, with what there is to say about it.
    `held` is what stands for a value in the guest, and `variables` those of the guest that carry it, both by secret. No
    value is in here but in the environment of `places`, which nothing shows.
    """

    places: SecretPlaces = field(default_factory=SecretPlaces)
    kinds: Mapping[str, str | None] = field(default_factory=dict)
    held: Mapping[str, Held] = field(default_factory=dict)
    missing: Mapping[str, SecretError] = field(default_factory=dict)
    variables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def forms(self) -> dict[str, str]:
        """The kind that each secret counts as; nothing for one without a value."""
        return {
            name: "" if name in self.missing else form_of(name, self.kinds[name], held.hosts[0])
            for name, held in self.held.items()
        }

    def of_forms(self, forms: Mapping[str, str]) -> Credentials:
        """The same with other kinds, such as those that a guest was started with."""
        found = {
            name: replace(held, placeholder=placeholder_for(name, forms.get(name, self.kinds[name]), held.hosts[0]))
            for name, held in self.held.items()
        }
        return replace(self, held=found)

    def environment(self, without: str | None = None) -> dict[str, str]:
        """The variables of the guest that carry placeholders, but for those of the secret `without`."""
        found: dict[str, str] = {}
        for name, variables in self.variables.items():
            if name != without:
                found |= variables
        return found


def compare_kinds(loaded: Loaded, layout: Layout, before: Mapping[str, str]) -> list[Change]:
    """A change for each secret that counts as another kind now than in `before`; none where a command has to be asked.

    Raises SecretError for a secret without a value.
    """
    settings = load_settings(layout.secret_settings)
    used = used_secrets(loaded)
    places = [source for name, each in sources_of(loaded, settings).items() if name in used for source in each]
    if any(source.kind == "command" for source in places):
        return []
    now = read_credentials(loaded, layout).forms()
    changed = [(name, before[name], form) for name, form in now.items() if before.get(name, form) != form]
    return [
        Change(f"secrets.{name}", "endpoints", f"{old} -> {new}: the agent has to be started again" if old else _FOUND)
        for name, old, new in changed
    ]


def read_credentials(loaded: Loaded, layout: Layout, optional: Collection[str] = ()) -> Credentials:
    """Look at every secret that the file's endpoints use, so that what is missing is told before anything is built.

    A keyring or a command of the user's may ask for a password, and takes as long as that. Raises SecretError that says
    where a value was looked for and the command that gives it one; not for the `optional` ones, which may be missing.
    """
    if not (used := used_secrets(loaded)):
        return Credentials()
    store, settings = Store(layout.secrets, layout.secrets_lock), load_settings(layout.secret_settings)
    sources = {name: places for name, places in sources_of(loaded, settings).items() if name in used}
    kinds: dict[str, str | None] = {}
    held: dict[str, Held] = {}
    variables: dict[str, Mapping[str, str]] = {}
    answers: dict[str, str] = {}
    missing: dict[str, SecretError] = {}
    for name, places in list(sources.items()):
        host = used[name][0]
        try:
            value, found = read_first(name, places, os.environ, store)
        except SecretError as error:
            if name not in optional:
                raise
            missing[name], kinds[name] = error, None
        else:
            if found.kind == "command":
                answers[name] = value
            kinds[name] = kind_of(name, value, host)
        held[name] = Held(used[name], placeholder_for(name, kinds[name], host))
        variables[name] = environment(name, kinds[name], host, loaded.sandbox.secrets[name].env)
        renewing = renewing_name(name)
        renews = renewal_for(name, kinds[name], host) is not None
        if renews and (renewing in settings or store.find(renewing) is not None):
            sources[renewing], kinds[renewing] = (own_source(renewing, settings),), None
    needed = needed_environment([place for each in sources.values() for place in each], os.environ)
    return Credentials(SecretPlaces(sources, needed, answers, tuple(missing)), kinds, held, missing, variables)
