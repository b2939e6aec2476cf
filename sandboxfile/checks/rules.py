"""Checking the endpoints together: finding rules that can never match, or that restrict nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sandboxfile.diagnostics import Problem
from sandboxfile.positions import render_path
from sandboxfile.sections.endpoints import Endpoint

_WEB: Mapping[str | None, frozenset[int]] = {"https": frozenset({443}), "http": frozenset({80})}


def check_rules(endpoints: Sequence[Endpoint]) -> Iterator[Problem]:
    """A problem for each rule without effect, and a warning for each rule that denies what no rule allows."""
    denials = [(index, rule) for index, rule in enumerate(endpoints) if rule.deny]
    allowances = [(index, rule) for index, rule in enumerate(endpoints) if not rule.deny]
    seen: dict[Endpoint, int] = {}
    for index, rule in enumerate(endpoints):
        if rule in seen:
            yield Problem(("endpoints", index), f"is the same as {_place(seen[rule])}")
            continue
        seen[rule] = index
        if rule.deny:
            if not any(may_meet(rule, other) for _, other in allowances):
                hint = "what no endpoint allows is refused anyway"
                yield Problem(("endpoints", index), "denies what nothing allows", hint, severity="warning")
            continue
        blocker = next((at for at, other in denials if _covers(other, rule)), None)
        if blocker is not None:
            yield Problem(
                ("endpoints", index), f"can never match: {_place(blocker)} denies all of it", "deny beats allow"
            )
        elif key := next((key for key in ("methods", "paths") if getattr(rule, key)), None):
            wider = next((at for at, other in allowances if at != index and _covers(other, rule, strictly=True)), None)
            if wider is not None:
                hint = f"narrow {_place(wider)}, or deny there what must not be"
                yield Problem(("endpoints", index, key), f"restricts nothing: {_place(wider)} allows all of it", hint)


def allows(endpoints: Sequence[Endpoint], host: str) -> bool:
    """Whether the rules for hosts allow `host`, which is HOST or HOST:PORT; the default port is 443.

    Named groups are not looked into.
    """
    name, _, text = host.partition(":")
    port = int(text or 443)
    rules = [rule for rule in endpoints if _host_covers(rule.host or "", name) and port in ports_of(rule)]
    rules = [rule for rule in rules if rule.deny or (rule.protocol != "tcp" and rule.as_ is None)]
    return any(not rule.deny for rule in rules) and not any(
        rule.deny and not (rule.methods or rule.paths) for rule in rules
    )


def _place(index: int) -> str:
    return render_path(("endpoints", index))


def ports_of(rule: Endpoint) -> frozenset[int]:
    """The ports that a rule speaks about."""
    return frozenset({rule.port}) if rule.port else _WEB.get(rule.protocol, frozenset({80, 443}))


def covers_host(wide: Endpoint, narrow: Endpoint) -> bool:
    """Whether `wide` speaks about every host that `narrow` speaks about. One that denies knows a host by each name."""
    if wide.deny:
        return any(_host_covers(wide.host or "", name) for name in (narrow.host or "", narrow.as_ or ""))
    return _host_covers(wide.host or "", narrow.host or "") and wide.as_ == narrow.as_


def _covers(wide: Endpoint, narrow: Endpoint, *, strictly: bool = False) -> bool:
    """Whether `wide` applies to every request that `narrow` applies to; `strictly`: and also to more."""
    if wide.group or narrow.group:
        same = wide.group is not None and wide.group == narrow.group
    else:
        same = covers_host(wide, narrow) and ports_of(narrow) <= ports_of(wide)
        same = same and (wide.deny or (wide.protocol == "tcp") == (narrow.protocol == "tcp"))
    methods = not wide.methods or bool(narrow.methods and set(narrow.methods) <= set(wide.methods))
    paths = not wide.paths or bool(narrow.paths and set(narrow.paths) <= set(wide.paths))
    if not (same and methods and paths):
        return False
    restrictions = (bool(wide.methods), bool(wide.paths)), (bool(narrow.methods), bool(narrow.paths))
    return restrictions[0] != restrictions[1] if strictly else True


def _host_covers(wide: str, narrow: str) -> bool:
    if wide == narrow:
        return True
    return wide.startswith("*.") and narrow.removeprefix("*").endswith(wide[1:])


def may_meet(one: Endpoint, other: Endpoint) -> bool:
    """Whether both rules may apply to the same request. The hosts of a named group are not known here."""
    if one.group or other.group:
        return True
    return (covers_host(one, other) or covers_host(other, one)) and bool(ports_of(one) & ports_of(other))
