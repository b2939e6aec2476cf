"""`journal --suggest`: the narrowest endpoints that a run needed, as its journal tells them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.gateway.names import BadName, canonical_name
from engine.gateway.policy import Policy
from engine.gateway.rules import WEB_PORTS, Rule
from engine.lifecycle.path_patterns import conditions_for
from engine.lifecycle.traffic import Traffic
from engine.report.text import clean_line, cut
from sandboxfile.names import GROUPS
from sandboxfile.sections.endpoints import METHODS

_OF_FILE = re.compile(r"endpoints\[([0-9]+)\]")
_OWN = ("group", "host", "port", "methods", "paths", "deny")  # what is told anew; the rest is the file's
_LONGEST_COMMENT = 120

Asked = tuple[str, int, str | None, str | None]
"""Host, port, and where they were seen, method and path."""


@dataclass(frozen=True)
class Suggested:
    """An entry of `endpoints`, or of what was refused. `asked` is what of the run it is for."""

    value: Any
    comment: str
    asked: tuple[Asked, ...] = ()

    def render(self) -> str:
        from sandboxfile.writing.notation import Hand

        # The guest has chosen some of the words: none may end its line.
        comment = cut(clean_line(self.comment), _LONGEST_COMMENT)
        return f"- {Hand().flow(self.value)}" + (f"  # {comment}" if comment else "")


@dataclass(frozen=True)
class Suggestion:
    """`unused` are entries of the file, as text, that this run did without; a build may need them."""

    endpoints: tuple[Suggested, ...]
    refused: tuple[Suggested, ...]
    unused: tuple[str, ...] = ()

    def render(self) -> str:
        """As YAML to paste."""
        lines = [f"  {one.render()}" for one in self.endpoints]
        if self.refused:
            lines += ["  # refused:", *(f"  # {one.render()}" for one in self.refused)]
        lines += [f"  # not used in this run (a build may need it): {clean_line(text)}" for text in self.unused]
        return "\n".join(["endpoints:" if self.endpoints else "endpoints: []", *lines, ""])


def suggest(
    traffic: Sequence[Traffic],
    filed: Sequence[Mapping[str, Any]] = (),
    groups: Mapping[str, Iterable[Rule]] | None = None,
) -> Suggestion:
    """`filed` are the endpoints that the sandbox runs with, written out; `groups` what the named groups stand for."""
    needed = [one for one in traffic if one.is_needed]
    entries: list[Suggested] = []
    by_group: dict[str, list[Traffic]] = {}
    by_host: dict[tuple[str, bool, int], list[Traffic]] = {}
    for one in needed:
        if group := _group_of(one, groups or {}):
            by_group.setdefault(group, []).append(one)
        else:
            is_web = one.port in WEB_PORTS
            by_host.setdefault((one.host, is_web, 0 if is_web else one.port), []).append(one)
    for group, each in by_group.items():
        entries.append(Suggested(group, _times(each), tuple(_asked(each))))
    for each in by_host.values():
        entries += [one for one in _of_host(each, filed) if one.value not in [entry.value for entry in entries]]
    return Suggestion(tuple(entries), tuple(_refused(traffic, entries)), tuple(_unused(needed, filed, by_group)))


def policy_of(entries: Iterable[Suggested], groups: Mapping[str, Iterable[Rule]]) -> Policy:
    """What the gateway would make of the entries, without their secrets."""
    rules: list[Rule] = []
    for entry in entries:
        if isinstance(entry.value, str) and entry.value in GROUPS:
            rules += groups.get(entry.value, ())
            continue
        value = entry.value if isinstance(entry.value, Mapping) else _long(entry.value)
        if value["host"] == "localhost" or value.get("protocol") == "tcp":
            continue
        rules.append(_rule(value))
    return Policy(rules)


def allows_all(policy: Policy, asked: Iterable[Asked]) -> bool:
    """Whether a policy lets everything through."""
    for host, port, method, path in asked:
        allowed = policy.decide(host, port) if method is None else policy.judge(host, port, method, path or "/")
        if not allowed.allowed:
            return False
    return True


def _group_of(one: Traffic, groups: Mapping[str, Iterable[Rule]]) -> str | None:
    """The group that allowed it; or, where nobody looked inside, one that has its host."""
    for rule in one.rules:
        name = rule.removeprefix("group ").removeprefix("sandbox allow ")
        if name in GROUPS and name != rule:
            return name
    if one.requests:
        return None
    return next(
        (name for name, rules in groups.items() if any(rule.matches(one.host, one.port) for rule in rules)), None
    )


def _of_host(each: Sequence[Traffic], filed: Sequence[Mapping[str, Any]]) -> list[Suggested]:
    host, port = each[0].host, each[0].port
    base = _endpoint_of(each, filed)
    if base.get("as") or base.get("protocol") == "tcp":
        return [Suggested(_written(base), _times(each), tuple(_asked(each)))]
    kept = {key: value for key, value in _written(base).items() if key not in _OWN}
    value: dict[str, Any] = {"host": host}
    if port not in WEB_PORTS:
        value["port"] = port
    if any(one.blind or one.is_crowded for one in each) or not any(one.requests for one in each):
        note = "" if any(one.requests for one in each) else "; what was asked was not looked at"
        return [Suggested(_short({**value, **kept}), _times(each) + note, tuple(_asked(each)))]
    ports = {one.port for one in each if one.requests}
    if ports == {80}:
        value["port"] = 80  # else its TLS, which it does not use, would be looked into
    found = []
    requests = [request for one in each for request in one.requests]
    for one in conditions_for(requests, METHODS):
        lists = {"methods": list(one.methods), "paths": list(one.paths)}
        entry = {**value, **{key: items for key, items in lists.items() if items}, **kept}
        asked = [each_asked for each_asked in _asked(each) if _is_for(each_asked, entry)]
        count = sum(each_one.requests[method, path] for each_one in each for method, path in _requests(asked, each_one))
        found.append(Suggested(_short(entry), _count(count), tuple(asked)))
    return found


def _is_for(asked: Asked, entry: Mapping[str, Any]) -> bool:
    return allows_all(Policy([_rule(entry)]), [asked])


def _rule(entry: Mapping[str, Any]) -> Rule:
    methods, paths = (tuple(entry.get(key, ())) for key in ("methods", "paths"))
    return Rule(entry["host"], entry.get("port"), methods=methods, paths=paths)


def _endpoint_of(each: Sequence[Traffic], filed: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The endpoint of the file that allowed it, with all that belongs to it, such as a secret; empty where none did."""
    for rule in (rule for one in each for rule in one.rules):
        match = _OF_FILE.fullmatch(rule)
        if match and int(match[1]) < len(filed):
            endpoint = filed[int(match[1])]
            if endpoint.get("as") or _names(endpoint, each[0].host):  # the file may have changed since
                return endpoint
    return {}


def _names(endpoint: Mapping[str, Any], host: str) -> bool:
    own = endpoint.get("host") or ""
    return host.endswith(own[1:]) if own.startswith("*.") else own == host


def _written(endpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not said."""
    return {key: value for key, value in endpoint.items() if value not in (None, False, [], ())}


def _short(entry: dict[str, Any]) -> Any:
    if set(entry) == {"host"}:
        return entry["host"]
    return f"{entry['host']}:{entry['port']}" if set(entry) == {"host", "port"} else entry


def _long(text: str) -> dict[str, Any]:
    host, colon, port = text.partition(":")
    return {"host": host, **({"port": int(port)} if colon else {})}


def _asked(each: Iterable[Traffic]) -> Iterable[Asked]:
    for one in each:
        yield from ((one.host, one.port, method, path) for method, path in one.requests)
        if not one.requests or one.blind:
            yield one.host, one.port, None, None


def _times(each: Sequence[Traffic]) -> str:
    count, failed = sum(one.allowed + one.failed for one in each), sum(one.failed for one in each)
    return f"{_count(count)}, {failed} of them without an answer" if failed else _count(count)


def _count(count: int) -> str:
    return f"{count} time{'s' if count != 1 else ''}"


def _requests(asked: Iterable[Asked], one: Traffic) -> list[tuple[str, str]]:
    """Those that were asked at the one's port."""
    return [(method, path or "") for _, port, method, path in asked if port == one.port and method is not None]


def _refused(traffic: Iterable[Traffic], entries: Iterable[Suggested]) -> Iterable[Suggested]:
    known = policy_of(entries, {})
    for one in traffic:
        if not one.refused or not _is_name(one.host):
            continue
        left = [request for request in one.refused_requests if not known.judge(one.host, one.port, *request).allowed]
        if one.refused_by is None and (one.is_needed or (not left and known.decide(one.host, one.port).allowed)):
            continue  # it was allowed later
        if one.refused_by is not None and one.refused_requests and not left:
            continue
        value: dict[str, Any] = {"host": one.host}
        if one.port not in WEB_PORTS:
            value["port"] = one.port
        comment = f"{_count(one.refused)}, last {one.last_refused}: {one.reason}"
        if one.refused_by is None or not left:
            yield Suggested(_short(value), comment)
            continue
        for conditions in conditions_for(left, METHODS):
            lists = {"methods": list(conditions.methods), "paths": list(conditions.paths)}
            yield Suggested({**value, **{key: items for key, items in lists.items() if items}}, comment)


def _is_name(host: str) -> bool:
    """Whether an endpoint can have it: the guest may say anything."""
    try:
        return canonical_name(host) == host
    except BadName:
        return False


def _unused(
    needed: Iterable[Traffic], filed: Sequence[Mapping[str, Any]], by_group: Mapping[str, Any]
) -> Iterable[str]:
    from sandboxfile.writing.notation import Hand

    used = {rule for one in needed for rule in one.rules}
    for index, endpoint in enumerate(filed):
        group = endpoint.get("group")
        if endpoint.get("deny") or f"endpoints[{index}]" in used or group in by_group:
            continue
        written = _written(endpoint)
        yield Hand().flow(group if set(written) == {"group"} else _short(written) if "host" in written else written)
