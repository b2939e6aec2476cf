"""What must not come back to the guest from a host that gets secrets, or got them a while ago."""

from __future__ import annotations

from collections.abc import Iterable

from engine.gateway.forms import forms_of
from engine.gateway.injection import CredentialRefused, Secrets
from engine.gateway.rules import Rule
from engine.gateway.signing import read_keys

MOST_HOSTS = 1024  # that are remembered; the guest chooses names below a `*`
MOST_VALUES = 8  # of one host: a token that is replaced every five minutes is known for most of an hour


class Given:
    """What each host was given while this gateway lives: a value that has a successor is often still good for a while,
    and a host may show an earlier request.

    Holds the last values of each host, and no more hosts than MOST_HOSTS: the one longest unasked is forgotten first.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, dict[str, list[bytes]]] = {}  # name -> value -> its forms; what came last is last

    def __repr__(self) -> str:
        return f"Given({len(self._hosts)} hosts)"

    def needles(self, host: str, rules: Iterable[Rule], secrets: Secrets) -> list[bytes]:
        """What must not come back from `host`, whose rules these are: each value as it is, and in what encodings make
        of it. The values of this moment are remembered.
        """
        known = self._hosts.pop(host, {})
        values = sorted(_values(rules, secrets))
        for value in values:
            known[value] = known.pop(value) if value in known else forms_of(value.encode())
        if not known:
            return []
        for value in list(known)[: -max(MOST_VALUES, len(values))]:
            del known[value]
        self._hosts[host] = known
        if len(self._hosts) > MOST_HOSTS:
            del self._hosts[next(iter(self._hosts))]
        return list(dict.fromkeys(form for forms in known.values() for form in forms))


def _values(rules: Iterable[Rule], secrets: Secrets) -> set[str]:
    values: set[str] = set()
    for rule in rules:
        signed = {injection.secret for injection in rule.injections if injection.form == "sigv4"}
        for name in rule.secrets:
            if value := secrets(name):
                values.update(_secret_parts(value) if name in signed else [value])
    return values


def _secret_parts(value: str) -> list[str]:
    """What of a pair of keys is secret: who they are of stands in every answer to a wrong signature."""
    try:
        keys = read_keys(value)
    except CredentialRefused:
        return [value]
    return [keys.secret, *([keys.token] if keys.token else [])]
