"""The differences between Compose and the library that checks the Compose sections.

In many places Compose accepts more. A value that `docker compose config` accepts, and that Docker can run, is replaced
by a stand-in before the library sees it. A value that Docker would refuse later is not replaced, so that the library
reports it. In a few places Compose accepts less: `check_service` finds those.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from sandboxfile.compose.published import is_address
from sandboxfile.diagnostics import Problem, did_you_mean, one_of, quote
from sandboxfile.positions import KeyPath
from sandboxfile.reading.interpolate import Substituted
from sandboxfile.windows import split_windows_mount

Soften = Callable[[Any], Any]

# The patterns are compiled at their first use, since most files have no such values.
_SIZE = r"(?i)[0-9]+(\.[0-9]+)? ?([kmgtp]i?b?|b)?"
_DURATION = r"([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+|0"
_PLATFORM = r"(?i)([a-z0-9]+(/[a-z0-9_.-]+){0,2})?"
_DEVICE = r"/[^:]+|[a-z0-9.-]+/[a-z0-9._-]+=[A-Za-z0-9._-]+"  # a single path, or a CDI name
_CACHE = r"(type|ref|src|dest|mode)=[^,\s]*(,[a-z_-]+=[^,\s]*)*"
_WORDS = {"true": True, "yes": True, "on": True, "y": True, "false": False, "no": False, "off": False, "n": False}
# The options of a mount that the library knows, and those that only Docker knows, or knew.
_JUDGED_OPTIONS = {"ro", "rw", "z", "Z"}
_MOUNT_OPTIONS = {"cached", "delegated", "consistent", "nocopy"}
_MOUNT_OPTIONS |= {f"{recursive}{kind}" for recursive in ("", "r") for kind in ("shared", "slave", "private")}
CONFIG_SOURCES = ("file", "content", "environment", "external")
# Keys of a config that the library refuses beside a source, and their types.
BESIDE_SOURCES: dict[str, type | tuple[type, ...]] = {"name": str, "template_driver": str, "labels": (dict, list)}


def soften(section: str, entry: dict[str, Any]) -> dict[str, Any]:
    """A copy of one service (or volume, network, config) with stand-ins for values that the library wrongly refuses.

    Lists keep their length, so that the paths in the library's errors are those of the file.
    """
    soft: Any = entry
    if section == "configs":
        wrong = {key for key, types in BESIDE_SOURCES.items() if key in entry and not isinstance(entry[key], types)}
        soft = {key: value for key, value in entry.items() if key in CONFIG_SOURCES or key in wrong}
    for path, rule in _RULES[section]:
        soft = _apply(soft, path, rule)
    if section == "services":
        soft = _without_empty(soft, ())
    return soft  # type: ignore[no-any-return]


def check_service(name: str, service: dict[str, Any]) -> Iterator[Problem]:
    """Problems that Compose has with a service and the library has not: numbers for text, keys without a value."""
    place: KeyPath = ("services", name)
    for paths, what, unit in ((_DURATIONS, "a duration", "s"), (_MEMORY, "a size", "")):
        for path in paths:
            for at, value in _at(service, path, place):
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    hint = f'write "{value}{unit}"' if value == int(value) else None
                    yield Problem(at, f"must be a string with {what}, got {quote(value)}", hint)
    for path in _FILLED:
        for at, value in _at(service, path, place):
            if value is None and at[2:] not in _MAYBE_EMPTY:
                yield Problem(at, "is empty", "remove the key or fill it", at_key=True)
    for at, value in _at(service, ("volumes", "*"), place):
        yield from _ignored_options(at, value)
    for at, _ in _at(service, _LATER, place):
        yield Problem(at, "is not supported by the Compose version in the guest", at_key=True)


def _ignored_options(at: KeyPath, entry: Any) -> Iterator[Problem]:
    """A warning for each unknown option of a mount. Compose ignores them, so `readonly` would allow to write."""
    words = entry.split(":")[2:3] if isinstance(entry, str) else []
    for option in (option for word in words for option in word.split(",")):
        if option and option not in _JUDGED_OPTIONS | _MOUNT_OPTIONS:
            hint = did_you_mean(option, _JUDGED_OPTIONS) or f"the options are {one_of(sorted(_JUDGED_OPTIONS))}"
            yield Problem(
                at, f"has the unknown option {quote(option)}, which Compose ignores", hint, severity="warning"
            )


def _apply(value: Any, path: KeyPath, rule: Soften) -> Any:
    """`value` with `rule` applied at `path`, in which * stands for every entry. What is changed is copied first."""
    if not path:
        return rule(value)
    key, rest = path[0], path[1:]
    if isinstance(value, dict):
        return {
            **value,
            **{name: _apply(value[name], rest, rule) for name in (value if key == "*" else {key} & {*value})},
        }
    if isinstance(value, list) and key == "*":
        return [_apply(item, rest, rule) for item in value]
    return value


def _without_empty(value: Any, path: KeyPath) -> Any:
    """The value without the empty keys, which `check_service` reports."""
    if not isinstance(value, dict) or not any(_matches(path, place[:-1]) for place in _FILLED):
        return value
    kept = {key: item for key, item in value.items() if item is not None or (*path, key) in _MAYBE_EMPTY}
    return {key: _without_empty(item, (*path, key)) for key, item in kept.items()}


def _matches(path: KeyPath, pattern: KeyPath) -> bool:
    return len(path) == len(pattern) and all(want in ("*", have) for have, want in zip(path, pattern, strict=True))


def _at(value: Any, path: KeyPath, place: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if not path:
        yield place, value
    elif isinstance(value, dict):
        for name in value if path[0] == "*" else {path[0]} & {*value}:
            yield from _at(value[name], path[1:], (*place, name))
    elif isinstance(value, list) and path[0] == "*":
        for index, item in enumerate(value):
            yield from _at(item, path[1:], (*place, index))


def _judged(value: Any) -> Any:
    """Hides a list that our own checks have judged already."""
    return [] if isinstance(value, list) else value


def _refused(value: Any) -> Any:
    """Hides a value that our own checks refuse in any case."""
    return []


def _name(value: Any) -> Any:
    return "name" if isinstance(value, str) else value


def _name_if_empty(value: Any) -> Any:
    """An unset variable leaves an empty text, which Compose treats as no value."""
    return "name" if value == "" else value


def _host_name(value: Any) -> Any:
    value = _name_if_empty(value)
    return re.sub(r"(?<=[A-Za-z0-9])_+(?=[A-Za-z0-9])", "-", value) if isinstance(value, str) else value


def _platform(value: Any) -> Any:
    return "linux/amd64" if isinstance(value, str) and re.fullmatch(_PLATFORM, value) else value


def _is_quoted(value: Any) -> bool:
    """Whether the file itself has a text here. Text from variables becomes a number by itself where one is needed."""
    return isinstance(value, str) and not isinstance(value, Substituted)


def _whole(value: Any) -> Any:
    if _is_quoted(value) and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _mode(value: Any) -> Any:
    return int(value, 8) if _is_quoted(value) and re.fullmatch("[0-7]{3,5}", value) else value


def _decimal(value: Any) -> Any:
    if _is_quoted(value) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}", value):
        return float(value)
    return value + 0.0 if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e9 else value


def _flag(value: Any) -> Any:
    return _WORDS.get(value.lower(), value) if _is_quoted(value) else value


def _size(value: Any) -> Any:
    return "1m" if isinstance(value, str) and re.fullmatch(_SIZE, value) else value


def _duration(value: Any) -> Any:
    return "1s" if isinstance(value, str) and re.fullmatch(_DURATION, value) else value


def _restart(value: Any) -> Any:
    return re.sub(r"^(on-failure:[0-9]+)?$", "no", value) if isinstance(value, str) else value


def _extends(value: Any) -> Any:
    return {"service": value} if isinstance(value, str) else value


def _test(value: Any) -> Any:
    """A test for the library: only the first word matters to it. An empty list means the check of the image."""
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        return value
    return [*(value[:1] or ["CMD"]), *(["CMD"] if len(value) > 1 else [])]


def _health(value: Any) -> Any:
    """Hides the other keys of a health check that is switched off: Compose ignores them."""
    if not isinstance(value, dict):
        return value
    if _flag(value.get("disable")) is True:
        return {"disable": True}
    return {"test": ["NONE"]} if value.get("test") == ["NONE"] else value


def _extra_hosts(value: Any) -> Any:
    if isinstance(value, dict):
        return {_host_name(name): _addresses(one) for name, one in value.items()}
    return [_extra_host(entry) for entry in value] if isinstance(value, list) else value


def _extra_host(entry: Any) -> Any:
    if not isinstance(entry, str):
        return entry
    name, separator, address = entry.partition("=" if "=" in entry else ":")
    return f"{_host_name(name)}:{_addresses(address)}" if separator and name else entry


def _addresses(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return next((one for one in map(_addresses, value) if not is_address(one)), "127.0.0.1")
    return "127.0.0.1" if value == "host-gateway" else value


def _device(entry: Any) -> Any:
    return "/dev/null:/dev/null" if isinstance(entry, str) and re.fullmatch(_DEVICE, entry) else entry


def _volume(entry: Any) -> Any:
    if isinstance(entry, dict):
        source = entry.get("source")
        return {**entry, "source": "/there"} if entry.get("type") == "bind" and source and _is_text(source) else entry
    if not isinstance(entry, str) or ":" not in entry:
        return entry
    if windows := split_windows_mount(entry):
        entry = f"./x:{windows[1]}{windows[2]}"  # our own checks refuse it
    source, *rest = entry.split(":")
    if source.startswith((".", "~")):
        source = "/there"
    if len(rest) == 2:
        kept = [option for option in rest[1].split(",") if option in _JUDGED_OPTIONS]
        rest[1:] = [",".join(kept)] if kept or not rest[1] else []
    return ":".join([source, *rest])


def _cache(entry: Any) -> Any:
    """The library knows names of images alone, and no `type=registry,ref=NAME`."""
    return "cache" if isinstance(entry, str) and re.fullmatch(_CACHE, entry) else entry


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _external(value: Any) -> Any:
    """`external: {name: NAME}` is an early form, which the library does not know."""
    return True if isinstance(value, dict) and value.keys() == {"name"} else _flag(value)


def _paths(*paths: str) -> tuple[KeyPath, ...]:
    return tuple(tuple(path.split(".")) for path in paths)


def _rules(rule: Soften, paths: tuple[KeyPath, ...]) -> list[tuple[KeyPath, Soften]]:
    return [(path, rule) for path in paths]


# Mappings whose keys belong to the format. They must have a value, unlike keys that the user has chosen.
_FILLED = _paths("*", "build.*", "healthcheck.*", "logging.*", "deploy.*", "deploy.resources.*", "deploy.resources.*.*")
_LATER = ("env_file", "*", "format")
_MAYBE_EMPTY = _paths("command", "entrypoint", "deploy", "develop")
_MEMORY = _paths("deploy.resources.*.memory")
_SIZES = (
    *_paths("shm_size", "mem_limit", "mem_reservation", "memswap_limit", "build.shm_size", "volumes.*.tmpfs.size"),
    *_MEMORY,
)
_DURATIONS = (
    *_paths("stop_grace_period", "healthcheck.interval", "healthcheck.timeout", "healthcheck.start_period"),
    *_paths("healthcheck.start_interval", "deploy.restart_policy.delay", "deploy.restart_policy.window"),
    *_paths("deploy.update_config.delay", "deploy.update_config.monitor"),
    *_paths("deploy.rollback_config.delay", "deploy.rollback_config.monitor"),
)
_WHOLES = (
    *_paths("scale", "pids_limit", "mem_swappiness", "oom_score_adj", "cpu_shares", "cpu_count", "healthcheck.retries"),
    *_paths("ulimits.*", "ulimits.*.soft", "ulimits.*.hard", "deploy.replicas", "deploy.resources.limits.pids"),
    *_paths("deploy.restart_policy.max_attempts", "deploy.update_config.parallelism"),
    *_paths("deploy.rollback_config.parallelism"),
)
_FLAGS = (
    *_paths("privileged", "read_only", "tty", "stdin_open", "init", "oom_kill_disable", "attach"),
    *_paths("healthcheck.disable", "build.no_cache", "build.pull", "build.privileged", "volumes.*.read_only"),
    *_paths("volumes.*.bind.create_host_path", "volumes.*.volume.nocopy"),
)
_RULES: dict[str, list[tuple[KeyPath, Soften]]] = {
    "services": [
        *_rules(_judged, _paths("ports")),
        *_rules(_refused, _paths("secrets")),
        *_rules(_name, _paths("image", "dns_search", "dns_search.*", "networks.*.aliases.*")),
        *_rules(_name_if_empty, _paths("container_name", "user")),
        *_rules(_host_name, _paths("hostname", "domainname")),
        *_rules(_platform, _paths("platform", "build.platforms.*")),
        *_rules(_restart, _paths("restart")),
        *_rules(_extends, _paths("extends")),
        *_rules(_extra_hosts, _paths("extra_hosts", "build.extra_hosts")),
        *_rules(_volume, _paths("volumes.*")),
        *_rules(_device, _paths("devices.*")),
        *_rules(_cache, _paths("build.cache_from.*", "build.cache_to.*")),
        *_rules(_test, _paths("healthcheck.test")),
        *_rules(_health, _paths("healthcheck")),
        *_rules(_mode, _paths("configs.*.mode")),
        *_rules(_decimal, _paths("cpus", "deploy.resources.*.cpus")),
        *_rules(_size, _SIZES),
        *_rules(_duration, _DURATIONS),
        *_rules(_whole, _WHOLES),
        *_rules(_flag, _FLAGS),
        # These are for a swarm; Compose reads and ignores them.
        *_rules(lambda value: "pause" if value == "rollback" else value, _paths("deploy.update_config.failure_action")),
        *_rules(
            lambda value: 0 if isinstance(value, float) else value, _paths("deploy.update_config.max_failure_ratio")
        ),
    ],
    "volumes": _rules(_external, _paths("external")),
    "networks": [
        *_rules(_external, _paths("external")),
        *_rules(_flag, _paths("internal", "attachable", "enable_ipv6")),
    ],
    "configs": _rules(_external, _paths("external")),
}
