"""Which header a secret goes into at a host, and what the guest holds in its place. Pure; the facts are in vendors.py.

The host decides first: `api.github.com` takes Bearer, whatever the secret is called. At a host that nobody knows (a
company's own gateway) the secret's name decides, and of a name that says nothing the secret is a Bearer token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.gateway import rules as of_gateway
from engine.gateway.rules import Injection, Rule, Substitution
from engine.secrets.vendors import PLACEHOLDER, VENDORS, Kind, Place, Probe, Renewal, Vendor

_UNKNOWN = Kind("token")


def injections_for(secret_name: str, host: str, kind: str | None = None) -> tuple[Injection, ...]:
    """What the gateway does to requests for `host`, or for every host below it (`*.example.com`).

    `kind` is a kind of its vendor's credentials (`kind_of`); by default the name says it, or it is the usual one.
    """
    vendor, place = _at(host) or (_named(secret_name), None)
    chosen = _choose(vendor, secret_name, kind)
    form = "basic" if place is not None and place.user else chosen.form
    held = placeholder_for(secret_name, kind, host)
    return (
        Injection(
            secret_name,
            chosen.header if form != "basic" else "authorization",
            form,
            place.user if place is not None else "",
            chosen.drop,
            place.paths if place is not None else (),
            (held,),
        ),
    )


def substitution_for(secret_name: str, host: str, kind: str | None = None, *, query: bool, body: bool) -> Substitution:
    """The value in the place of its placeholder, in queries or bodies for `host`."""
    return Substitution(secret_name, placeholder_for(secret_name, kind, host), query, body)


def renewing_name(secret_name: str) -> str:
    """The name under which the token is kept that renews a secret. No file can give one this name."""
    return f"{secret_name}@refresh"


def renewal_rule(secret_name: str, host: str, kind: str | None, origin: str, place: str) -> Rule | None:
    """What lets the guest renew a login for `host`: one request to its vendor, which is masked both ways."""
    if (renewal := renewal_for(secret_name, kind, host)) is None:
        return None
    answered = of_gateway.Renewal(
        secret_name,
        renewing_name(secret_name),
        renewal.placeholder,
        renewal.asked,
        (
            (renewal.access, "access", placeholder_for(secret_name, kind, host)),
            (renewal.refresh, "refresh", renewal.placeholder),
            (renewal.identity, "identity", PLACEHOLDER),
        ),
    )
    where = (renewal.path,)
    return Rule(renewal.host, 443, origin=origin, place=place, methods=("POST",), paths=where, renewal=answered)


def placeholder_for(secret_name: str, kind: str | None = None, host: str | None = None) -> str:
    """What the guest holds instead of the value: clients tell kinds of credentials by its looks."""
    if (vendor := vendor_of(secret_name, host)) is None:
        return f"{PLACEHOLDER}-{secret_name}"
    return _choose(vendor, secret_name, kind).placeholder


def environment(
    secret_name: str, kind: str | None = None, host: str | None = None, variable: str | None = None
) -> Mapping[str, str]:
    """The variables that carry the placeholder into the guest. `variable` is the one of the user's that the value comes
    from: programs in the guest look for the same."""
    vendor = vendor_of(secret_name, host)
    chosen = _choose(vendor, secret_name, kind)
    known = {**dict.fromkeys(chosen.variables, placeholder_for(secret_name, kind, host)), **dict(chosen.held)}
    return known if variable is None else {variable: placeholder_for(secret_name, kind, host), **known}


def kind_of(secret_name: str, value: str, host: str | None = None) -> str | None:
    """The kind of credential that a value is by its looks; None where they say nothing. The value is not kept."""
    vendor = vendor_of(secret_name, host)
    kinds = vendor.kinds if vendor is not None else ()
    return next((kind.name for kind in kinds if value.startswith(kind.beginnings or ("\0",))), None)


def form_of(secret_name: str, kind: str | None = None, host: str | None = None) -> str:
    """The kind that a secret counts as: what the guest holds and which header is sent depend on it alone."""
    return _choose(vendor_of(secret_name, host), secret_name, kind).name


def renewal_for(secret_name: str, kind: str | None = None, host: str | None = None) -> Renewal | None:
    """Where tokens of this kind are renewed."""
    return _choose(vendor_of(secret_name, host), secret_name, kind).renewal


def probe_for(vendor: Vendor, secret_name: str, kind: str | None = None) -> tuple[Probe, Injection] | None:
    """The request that tells whether the vendor takes the value, and how the value goes into it."""
    chosen = _choose(vendor, secret_name, kind)
    if chosen.probe is None:
        return None
    return chosen.probe, Injection(secret_name, chosen.header, chosen.form, "", chosen.drop)


def vendor_of(secret_name: str, host: str | None = None) -> Vendor | None:
    """Whose credential it is: by the host that it goes to, else by its name."""
    found = _at(host) if host is not None else None
    return found[0] if found is not None else _named(secret_name)


def vendor_called(name: str) -> Vendor | None:
    return next((vendor for vendor in VENDORS if name in (vendor.name, *vendor.aliases)), None)


def name_for(variable: str) -> str:
    """What a secret is best called that the user has in the variable `variable`."""
    for vendor in VENDORS:
        for kind in vendor.kinds:
            if variable in kind.variables:
                return vendor.name if kind is vendor.kinds[0] else f"{vendor.name}-{kind.name}"
    return re.sub(r"[^a-z0-9_-]", "-", variable.lower()).lstrip("-_")[:64]


def _at(host: str) -> tuple[Vendor, Place] | None:
    """Of a wildcard, what all known hosts below it have in common; None where they differ."""
    host = host.rstrip(".").lower()
    found = {
        (vendor, place)
        for vendor in VENDORS
        for place in vendor.places
        for each in place.hosts
        if each == host
        or (host.startswith("*.") and each.endswith(host[1:]))
        or (each.startswith("*.") and host.endswith(each[1:]))
    }
    return next(iter(found)) if len(found) == 1 else None


def _named(secret_name: str) -> Vendor | None:
    return vendor_called(_words(secret_name)[0])


def _choose(vendor: Vendor | None, secret_name: str, kind: str | None) -> Kind:
    if vendor is None:
        return _UNKNOWN
    said = [each for each in vendor.kinds if each.name == kind]
    named = [each for each in vendor.kinds if set(each.words) & set(_words(secret_name)[1:])]
    return [*said, *named, *vendor.kinds][0]


def _words(secret_name: str) -> list[str]:
    return re.split("[-_]", secret_name)
