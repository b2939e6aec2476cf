"""The policy against a second one, slow and obvious: rules and a request are built from any bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from server_paths import slow_match, tokens_of

from engine.gateway.paths import BadTarget, read_target
from engine.gateway.policy import Policy
from engine.gateway.rules import Injection, Rule

_T = TypeVar("_T")

HOSTS = ("a.example", "b.a.example", "c.b.a.example", "ba.example", "example.net", "x.example.net")
WILDCARDS = ("*.a.example", "*.example.net", "*.b.a.example")
PORTS = (80, 443, 8443)
METHODS = ("GET", "POST", "HEAD", "DELETE")
PATTERNS = ("/", "/**", "/ok/**", "/ok/*", "/a*b/c", "/**/c", "/OK", "/x/**/y")
TARGETS = (
    *("/", "/ok", "/ok/a", "/OK/a", "/ok/a/b", "/ok/", "/ab/c", "/axb/c", "/x/y", "/x/1/2/y", "/c", "/q/c"),
    *("/ok%2fa", "/%6fk/a", "/ok;v=1/a", "/ok/..", "//ok", "/ok/a?_method=DELETE", "/ok/a?x=1&_Method=get", "*", "ok"),
)
OVERRIDES = ((), ("DELETE",), ("get",), ("", "POST"))


class Choices:
    """Bytes as choices; the first of each when there are no more."""

    def __init__(self, data: bytes) -> None:
        self._bytes = iter(data)

    def below(self, count: int) -> int:
        return next(self._bytes, 0) % count

    def one(self, values: Sequence[_T]) -> _T:
        return values[self.below(len(values))]

    def some(self, values: Sequence[_T]) -> tuple[_T, ...]:
        return tuple(self.one(values) for _ in range(self.below(3)))


@dataclass(frozen=True)
class Asked:
    host: str
    port: int
    method: str
    target: str
    overrides: tuple[str, ...]


def _rule(choices: Choices, number: int) -> Rule:
    injections = (Injection(f"s{number}", "authorization", "raw", paths=choices.some(PATTERNS)),)
    return Rule(
        choices.one(HOSTS + WILDCARDS),
        port=choices.one((None, *PORTS)),
        deny=choices.below(3) == 1,
        methods=choices.some(METHODS),
        paths=choices.some(PATTERNS),
        injections=injections if choices.below(3) == 1 else (),
        intercept=choices.below(2) == 1,
        origin=f"endpoints[{number}]",
    )


def policy(data: bytes) -> None:
    choices = Choices(data)
    rules = [_rule(choices, number) for number in range(choices.below(5))]
    asked = Asked(
        choices.one(HOSTS),
        choices.one(PORTS),
        choices.one((*METHODS, "get")),
        choices.one(TARGETS),
        choices.one(OVERRIDES),
    )
    decision = Policy(rules).judge(asked.host, asked.port, asked.method, asked.target, asked.overrides)
    wanted = slow_judge(rules, asked)
    assert decision.allowed is (wanted is not None), f"{decision}, and the reference says {wanted}"
    assert {injection.secret for injection in decision.injections} == (wanted or set())
    assert Policy(rules).decide(asked.host, asked.port).allowed is _reaches(_about(rules, asked))
    assert Policy(rules).looks_into(asked.host, asked.port) is any(map(_conditional, _about(rules, asked)))


def _about(rules: Sequence[Rule], asked: Asked) -> list[Rule]:
    return [rule for rule in rules if _named(rule, asked.host) and asked.port in _ports(rule)]


def _named(rule: Rule, host: str) -> bool:
    if not rule.host.startswith("*."):
        return rule.host == host
    labels, wanted = host.split("."), rule.host.split(".")[1:]
    return len(labels) > len(wanted) and labels[-len(wanted) :] == wanted


def _ports(rule: Rule) -> tuple[int, ...]:
    return (80, 443) if rule.port is None else (rule.port,)


def _conditional(rule: Rule) -> bool:
    return rule.intercept or rule.methods != () or rule.paths != () or rule.injections != ()


def _reaches(about: Sequence[Rule]) -> bool:
    if any(rule.deny and not rule.methods and not rule.paths for rule in about):
        return False
    return any(not rule.deny for rule in about)


def slow_judge(rules: Sequence[Rule], asked: Asked) -> set[str] | None:
    """The secrets that the request gets; None when it is refused."""
    about = _about(rules, asked)
    if not _reaches(about):
        return None
    strict = any(rule.paths or any(injection.paths for injection in rule.injections) for rule in about)
    try:
        readings = read_target(asked.target, strict=strict).readings
    except BadTarget:
        return None
    if asked.method == "get" and any(map(_conditional, about)):
        return None
    methods = [asked.method, *(method.strip().upper() for method in asked.overrides if method.strip())]
    for part in asked.target.partition("?")[2].split("&"):
        name, _, value = part.partition("=")
        if name.lower() == "_method" and value:
            methods.append(value.upper())
    if any(rule.deny and _denies(rule, methods, readings) for rule in about):
        return None
    covering = [rule for rule in about if not rule.deny and _covers(rule, methods, readings)]
    if not covering:
        return None
    for rule in covering:  # all of them go into the same header: the first that has one decides
        for injection in rule.injections:
            if not injection.paths or _all_match(injection.paths, readings):
                return {injection.secret}
    return set()


def _allows_method(rule: Rule, method: str) -> bool:
    return not rule.methods or method in rule.methods or (method == "HEAD" and "GET" in rule.methods)


def _covers(rule: Rule, methods: Sequence[str], readings: Sequence[str]) -> bool:
    return all(_allows_method(rule, method) for method in methods) and (
        not rule.paths or _all_match(rule.paths, readings)
    )


def _all_match(patterns: Sequence[str], readings: Sequence[str]) -> bool:
    return all(any(slow_match(tokens_of(pattern), reading) for pattern in patterns) for reading in readings)


def _denies(rule: Rule, methods: Sequence[str], readings: Sequence[str]) -> bool:
    spellings = [reading.lower() for reading in readings]
    spellings += [spelling.rstrip("/") or "/" for spelling in spellings]
    patterns = [tokens_of(pattern.lower()) for pattern in rule.paths]
    return any(_allows_method(rule, method) for method in methods) and (
        not rule.paths or any(slow_match(pattern, spelling) for pattern in patterns for spelling in spellings)
    )


POLICY_SEEDS = (
    bytes([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    bytes([2, 6, 1, 0, 1, 0, 1, 2, 1, 1, 0, 3, 0, 1, 0, 1, 2, 0, 0, 1, 1, 0, 3, 1]),
    bytes(range(60)),
    bytes(range(200, 140, -1)),
)
