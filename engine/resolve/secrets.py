"""The secrets of a file as places on this host."""

from __future__ import annotations

from collections.abc import Mapping

from engine.resolve.paths import real_source
from engine.secrets.errors import SecretError
from engine.secrets.sources import Source
from sandboxfile import Loaded
from sandboxfile.presets.expansion import hosts_of
from sandboxfile.sections.agent import Secret


def used_secrets(loaded: Loaded) -> dict[str, tuple[str, ...]]:
    """The secrets that endpoints use, with the hosts that get them, of all sandboxes of the file."""
    found: dict[str, dict[str, None]] = {}
    for one in loaded.each():
        for endpoint in one.sandbox.endpoints:
            if endpoint.secret is not None and endpoint.secret in one.sandbox.secrets:
                hosts = (endpoint.host,) if endpoint.host is not None else hosts_of(endpoint, secret=True)
                found.setdefault(endpoint.secret, {}).update(dict.fromkeys(hosts))
    return {name: tuple(hosts) for name, hosts in found.items()}


def sources_of(loaded: Loaded, settings: Mapping[str, Source]) -> dict[str, tuple[Source, ...]]:
    """Where the value of each of the file's secrets is looked for, in this order.

    First where the file says; then what the user keeps under the secret's own name, so that a file which names a
    variable works for who has a keyring. `settings` are the user's own places. Raises SecretError for a path of which
    nothing comes.
    """
    return {name: _sources(loaded, name, secret, settings) for name, secret in loaded.sandbox.secrets.items()}


def _sources(loaded: Loaded, name: str, secret: Secret, settings: Mapping[str, Source]) -> tuple[Source, ...]:
    if secret.keyring is not None:
        return (own_source(secret.keyring, settings),)
    own = own_source(name, settings)
    if secret.env is not None:
        return (Source("env", secret.env), own)
    if secret.file is not None:
        try:
            return (Source("file", str(real_source(loaded.project, secret.file))), own)
        except (OSError, RuntimeError):
            raise SecretError(f"the file of the secret {name} has no path: {secret.file}") from None
    return (own,)


def own_source(name: str, settings: Mapping[str, Source]) -> Source:
    """What the user keeps under this name, wherever that is."""
    return settings.get(name) or Source("keyring", name)
