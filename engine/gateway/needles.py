"""What must not come back to the guest from a host that gets secrets."""

from __future__ import annotations

from collections.abc import Iterable

from engine.gateway.forms import forms_of
from engine.gateway.injection import CredentialRefused, Secrets
from engine.gateway.rules import Rule
from engine.gateway.signing import read_keys


def needles(rules: Iterable[Rule], secrets: Secrets) -> list[bytes]:
    """What must not come back from the rules' host: each value as it is, and in what encodings make of it."""
    values: set[str] = set()
    for rule in rules:
        signed = {injection.secret for injection in rule.injections if injection.form == "sigv4"}
        for name in rule.secrets:
            if value := secrets(name):
                values.update(_secret_parts(value) if name in signed else [value])
    return list(dict.fromkeys(form for value in sorted(values) for form in forms_of(value.encode())))


def _secret_parts(value: str) -> list[str]:
    """What of a pair of keys is secret: who they are of stands in every answer to a wrong signature."""
    try:
        keys = read_keys(value)
    except CredentialRefused:
        return [value]
    return [keys.secret, *([keys.token] if keys.token else [])]
