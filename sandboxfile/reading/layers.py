"""Laying one file over another.

Mappings are merged key by key, and `null` removes a key. In lists whose entries have an identity (the target of a
mount, the host of an endpoint, the guest's port of a port), an entry replaces the one with the same identity. Packages
and set-up steps are added to the list. Other lists are replaced. The Compose sections are merged as the Compose
specification says, with its tags: `!reset` removes what lower layers have, and `!override` replaces it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sandboxfile.names import PARAMETERISED, SECTIONS
from sandboxfile.positions import KeyPath
from sandboxfile.reading.document import Placed

Identity = Callable[[Placed], object]

# Keys of the Compose sections: values that are replaced, mappings that may be written as lists of pairs, and lists
# whose entries are identified by their target.
_REPLACED = {"command", "entrypoint", "test"}
_PAIRS = {
    "environment",
    "labels",
    "annotations",
    "args",
    "sysctls",
    "extra_hosts",
    "driver_opts",
    "additional_contexts",
}
_BY_TARGET = {"volumes", "configs", "secrets", "devices"}
_WORDS_OR_MAPPING = {"depends_on": {"condition": "service_started"}, "networks": None}


def lay_over(base: Placed, over: Placed) -> Placed:
    """`over` laid over `base`. Both are whole files."""
    return _merge(base, over, ())


def lay_service_over(base: Placed, over: Placed, name: str) -> Placed:
    """One service laid over another, by the rules for layers."""
    return _merge(base, over, ("services", name))


def _merge(base: Placed, over: Placed, path: KeyPath) -> Placed:
    if over.tag is not None:
        return over
    if base.tag == "reset":
        return replace(over, tag="override")  # what is below both is still removed
    merged = _merge_untagged(base, over, path)
    return merged if base.tag is None else replace(merged, tag=base.tag)


def _merge_untagged(base: Placed, over: Placed, path: KeyPath) -> Placed:
    in_compose = path[:1] and path[0] in SECTIONS
    if in_compose and len(path) > 2 and (merged := _merge_compose(base, over, path)) is not None:
        return merged
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        return _merge_mappings(base, over, path)
    if isinstance(base.value, list) and isinstance(over.value, list) and not in_compose:
        return _merge_lists(base, over, path)
    return over


def _merge_mappings(base: Placed, over: Placed, path: KeyPath) -> Placed:
    merged = dict(base.value)
    for key, item in over.value.items():
        inside = (*path, key)
        if item.tag is not None or (key in merged and merged[key].tag == "reset"):
            merged[key] = _merge(merged[key], item, inside) if key in merged else item
        elif item.value is None and _removes(inside):
            merged.pop(key, None)
        elif item.value is None and key in merged:
            continue  # an empty `data:` in `volumes` declares a volume that is declared already
        else:
            merged[key] = _merge(merged[key], item, inside) if key in merged else item
    return Placed(merged, base.source, base.path)


def _removes(path: KeyPath) -> bool:
    """Whether an empty value at `path` removes the key. In volumes, networks and below a service's key it does not."""
    return path[0] not in SECTIONS or (path[0] == "services" and len(path) <= 3)


def _merge_lists(base: Placed, over: Placed, path: KeyPath) -> Placed:
    section = path[2:] if path[:1] == ("agents",) else path
    if len(section) != 1 or section[0] not in _LISTS:
        return over
    if section[0] == "endpoints":
        return Placed(_join_endpoints(base.value, over.value), base.source, base.path)
    identity = _LISTS[str(section[0])]
    return Placed(_join(base.value, over.value, identity), base.source, base.path)


def _join(base: list[Placed], over: list[Placed], identity: Identity | None) -> list[Placed]:
    """The entries of both lists. An entry of `over` replaces the entry of `base` that has the same identity."""
    joined = list(base)
    if identity is None:
        return joined + over
    places = {identity(item): index for index, item in enumerate(joined)}
    for item in over:
        name = identity(item)
        if name in places:
            joined[places[name]] = item
        else:
            places[name] = len(joined)
            joined.append(item)
    return joined


def _merge_compose(base: Placed, over: Placed, path: KeyPath) -> Placed | None:
    """Merge by the specification's rules for lists; None for two mappings, and where `over` simply replaces `base`."""
    key = path[-1]
    if key in _REPLACED:
        return over
    if key in _PAIRS and path[0] != "configs":
        return _merge_mappings(_as_pairs(base), _as_pairs(over), path)
    if key in _WORDS_OR_MAPPING and (isinstance(base.value, dict) or isinstance(over.value, dict)):
        default = _WORDS_OR_MAPPING[str(key)]
        return _merge_mappings(_as_mapping(base, default), _as_mapping(over, default), path)
    if isinstance(base.value, list) or isinstance(over.value, list):
        return _append(base, over, str(key))
    return None


def _append(base: Placed, over: Placed, key: str) -> Placed:
    ours = base.value if isinstance(base.value, list) else [base]
    theirs = over.value if isinstance(over.value, list) else [over]
    identity = _target_of if key in _BY_TARGET else _whole
    return Placed(_join(ours, theirs, identity), base.source, base.path)


def _as_pairs(placed: Placed) -> Placed:
    """A list of pairs as a mapping: `[A=1, B]` as `{A: 1, B: null}`."""
    if not isinstance(placed.value, list):
        return placed if isinstance(placed.value, dict) else Placed({}, placed.source, placed.path)
    pairs: dict[str, Placed] = {}
    for item in placed.value:
        name, sign, value = str(item.value).partition("=")
        if not sign and ":" in name:  # extra_hosts
            name, sign, value = name.partition(":")
        text = type(item.value)(value, item.value.names) if hasattr(item.value, "names") else value
        pairs[name] = Placed(text if sign else None, item.source, item.path)
    return Placed(pairs, placed.source, placed.path)


def _as_mapping(placed: Placed, default: Any) -> Placed:
    if not isinstance(placed.value, list):
        return placed if isinstance(placed.value, dict) else Placed({}, placed.source, placed.path)
    entries = {}
    for item in placed.value:
        value: Any = default
        if isinstance(default, dict):
            value = {key: Placed(word, item.source, item.path) for key, word in default.items()}
        entries[str(item.value)] = Placed(value, item.source, item.path)
    return Placed(entries, placed.source, placed.path)


def _field(item: Placed, name: str) -> Any:
    inner = item.value.get(name) if isinstance(item.value, dict) else None
    return None if inner is None else inner.value


def _whole(item: Placed) -> object:
    if isinstance(item.value, dict):
        return tuple((key, _whole(inner)) for key, inner in sorted(item.value.items()))
    if isinstance(item.value, list):
        return tuple(_whole(inner) for inner in item.value)
    return (type(item.value).__name__, item.value)


def _target_of(item: Placed) -> object:
    if isinstance(item.value, dict):
        return _field(item, "target") or _field(item, "source") or _whole(item)
    parts = str(item.value).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def _mount(item: Placed) -> object:
    if isinstance(item.value, str):
        parts = item.value.split(":")
        return parts[1].rstrip("/") if len(parts) > 1 else item.value
    target = _field(item, "target")
    return target.rstrip("/") if isinstance(target, str) else _whole(item)


def _endpoint(item: Placed) -> object:
    if isinstance(item.value, str):
        host, _, port = item.value.rpartition(":") if re.search(r":[0-9]+$", item.value) else (item.value, "", "")
        return (host.lower(), port, False)
    named = _field(item, "host") or _field(item, "group")
    if named is None and isinstance(item.value, dict):  # a preset of some repositories, with whatever access
        named = next((_whole(item.value[name]) for name in PARAMETERISED if name in item.value), None)
    port = _field(item, "port")
    # A rule that denies some requests stands beside the one that allows the others. One that denies all replaces it.
    partly = _field(item, "deny") is True and bool(_field(item, "methods") or _field(item, "paths"))
    return (str(named).lower(), "" if port is None else str(port), partly)


def _join_endpoints(base: list[Placed], over: list[Placed]) -> list[Placed]:
    """The rules of both. What `over` says of a host replaces what `base` says of it, however many rules that takes."""
    left: dict[object, list[Placed]] = {}
    for item in over:
        left.setdefault(_endpoint(item), []).append(item)
    named = set(left)
    denied = [str(_field(item, "host")).lower() for item in over if _denies_all(item)]
    kept = [item for item in base if _endpoint(item) in named or not _is_below(item, denied)]
    joined: list[Placed] = []
    for item in kept:
        if (name := _endpoint(item)) not in named:
            joined.append(item)
        elif _denies_all(item) and all(rule.source is item.source for rule in over if _endpoint(rule) == name):
            joined.append(item)  # within one file, what is denied for all agents no agent may allow
        elif name in left:  # in the place of the first rule of that host
            joined += left.pop(name)
    return [*joined, *(item for items in left.values() for item in items)]


def _denies_all(item: Placed) -> bool:
    return _field(item, "deny") is True and not any(_field(item, key) for key in ("methods", "paths", "port"))


def _is_below(item: Placed, denied: list[str]) -> bool:
    """Whether a pattern of `denied` hosts covers the host of a rule, which therefore could never match."""
    host = str(_endpoint(item)[0]).removeprefix("*")  # type: ignore[index]
    if _field(item, "deny") is True:
        return False
    return any(pattern.startswith("*.") and host.endswith(pattern[1:]) for pattern in denied)


def _port(item: Placed) -> object:
    guest = _field(item, "guest") if isinstance(item.value, dict) else str(item.value).rpartition(":")[2]
    return str(guest)


_LISTS: dict[str, Identity | None] = {
    "packages": _whole,
    "setup": None,
    "mounts": _mount,
    "endpoints": _endpoint,
    "ports": _port,
}
