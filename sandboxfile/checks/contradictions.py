"""Endpoints that ask for two things at once of the same host: each is right by itself, together they are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sandboxfile.checks.rules import covers_host, may_meet, ports_of
from sandboxfile.diagnostics import Problem, quote
from sandboxfile.positions import render_path
from sandboxfile.sections.endpoints import Endpoint

MOST_NAMES = 99  # with an address of their own: 10.0.2.101 to 10.0.2.199

# Ports at which a server speaks neither HTTP nor TLS from its first byte on.
_NOT_HTTP: Mapping[int, str] = {
    **{21: "FTP", 22: "ssh", 25: "mail", 110: "mail", 143: "mail", 389: "LDAP", 587: "mail", 1433: "SQL Server"},
    **{1521: "Oracle", 3306: "MySQL", 4222: "NATS", 5432: "PostgreSQL", 5672: "AMQP", 6379: "Redis", 9092: "Kafka"},
    **{9418: "git", 11211: "Memcached", 27017: "MongoDB"},
}


def check_contradictions(endpoints: Sequence[Endpoint], services: Mapping[str, object]) -> Iterator[Problem]:
    """Problems of endpoints with each other, and with the names of services in the guest."""
    for index, rule in enumerate(endpoints):
        if rule.deny:
            continue
        others = [(at, other) for at, other in enumerate(endpoints) if at != index]
        if rule.bypass:
            yield from _bypass(index, rule, others)
        if rule.protocol == "tcp":
            yield from _tcp(index, rule, others)
        elif rule.protocol is None and (whose := _NOT_HTTP.get(rule.port or 0)):
            message = f"is a port of {whose}, which names no host"
            yield Problem(("endpoints", index, "port"), message, "add `protocol: tcp`", severity="warning")
        if rule.as_ is not None:
            yield from _name(index, rule.as_, others, services)
    names = list(dict.fromkeys(rule.as_ or rule.host for rule in endpoints if rule.protocol == "tcp" and not rule.deny))
    if len(names) > MOST_NAMES:
        yield Problem(("endpoints",), f"has {len(names)} names with protocol tcp, and there are {MOST_NAMES} addresses")


def _bypass(index: int, rule: Endpoint, others: Sequence[tuple[int, Endpoint]]) -> Iterator[Problem]:
    path = ("endpoints", index, "bypass")
    for at, other in others:
        if other.deny and (other.methods or other.paths) and may_meet(rule, other):
            message = f"nobody could see what {_place(at)} denies of it"
            yield Problem(path, message, "deny the whole host, or leave `bypass` away")
        elif not other.deny and _looks_inside(other) and covers_host(rule, other) and ports_of(rule) & ports_of(other):
            message = f"contradicts {_place(at)}, which needs a look inside TLS"
            yield Problem(path, message, "give one of the two up")


def _tcp(index: int, rule: Endpoint, others: Sequence[tuple[int, Endpoint]]) -> Iterator[Problem]:
    path = ("endpoints", index, "protocol")
    for at, other in others:
        if other.group or other.protocol == "tcp" or not may_meet(rule, other):
            continue
        if other.deny and (other.methods or other.paths):
            yield Problem(path, f"nobody could see what {_place(at)} denies of it", "deny the whole port")
        elif not other.deny and (_looks_inside(other) or covers_host(rule, other)):
            yield Problem(path, f"contradicts {_place(at)}, where the same port has another protocol")


def _name(
    index: int, name: str, others: Sequence[tuple[int, Endpoint]], services: Mapping[str, object]
) -> Iterator[Problem]:
    path = ("endpoints", index, "as")
    if name in services:
        yield Problem(path, f"is the name of a service: {quote(name)} would be two things", "choose another name")
    for at, other in others:
        if not other.deny and other.as_ is None and other.host == name:
            yield Problem(path, f"is the host of {_place(at)}: {quote(name)} would be two things")


def _looks_inside(rule: Endpoint) -> bool:
    return bool(rule.secret or rule.methods or rule.paths or rule.intercept)


def _place(index: int) -> str:
    return render_path(("endpoints", index))
