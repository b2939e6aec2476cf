"""From the arguments and options of `sandbox add` to entries of the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import click

from sandboxfile.names import PARAMETERISED
from sandboxfile.writing.additions import Addition

_OF_REQUESTS = ("methods", "paths", "secret", "secret_in", "foreign_credentials")
_ORDER = ("port", "protocol", "as", "private", "access", "push", *_OF_REQUESTS, "intercept", "bypass", "deny")
_HOST_AND_PORT = re.compile(r"(?P<host>[^:]+):(?P<port>[0-9]{1,5})")


def endpoint_entry(word: str, *, groups: Iterable[str], **rules: Any) -> Any:
    """The entry for an endpoint: a short form, such as `npm` or `api.example.com:8443`, where that can say it all."""
    given = {key: value for key, value in rules.items() if value}
    preset, _, rest = word.partition(":")
    if not given and preset not in PARAMETERISED:
        return word
    if set(given) == {"port"} and ":" not in word and word not in groups:
        return f"{word}:{given['port']}"
    entry: dict[str, Any] = {"group" if word in groups else "host": word}
    if match := _HOST_AND_PORT.fullmatch(word):
        entry = {"host": match["host"], "port": int(match["port"])}
    elif preset in PARAMETERISED and rest:
        entry = {preset: rest}
    return entry | {key: given[key] for key in _ORDER if key in given}


def mount_entry(word: str, mode: str | None, hide: Iterable[str], local: Iterable[str]) -> Any:
    """The entry for a mount: SOURCE:TARGET[:MODE] itself, or the long form where there is `hide` or `local`."""
    extra = {key: list(value) for key, value in (("hide", hide), ("local", local)) if value}
    source, _, target = word.partition(":")
    if mode and ":" not in target:
        word, target = f"{word}:{mode}", f"{target}:{mode}"
    if not extra:
        return word
    target, _, mode = target.partition(":")
    return {"source": source, "target": target, **({"mode": mode} if mode else {}), **extra}


def port_entry(word: str) -> Any:
    return int(word) if re.fullmatch("[1-9][0-9]{0,4}", word) else word


def service_entry(
    *,
    image: str | None,
    build: str | None,
    start: str | None,
    env: Iterable[str],
    volumes: Iterable[str],
    depends_on: Iterable[str],
    ports: Iterable[str],
    healthcheck: str | None,
    others: Mapping[str, Any],
) -> dict[str, Any]:
    """A service as Compose writes it.

    `others` are the services of the file: where one of `depends_on` has a health check, the new service waits for it.
    """
    entry = {
        "image": image,
        "build": build,
        "command": start,
        "environment": dict(_pair(word) for word in env),
        "volumes": list(volumes),
        "depends_on": _needs(list(depends_on), others),
        "ports": [f"{word}:{word}" if word.isdigit() else word for word in ports],
        "healthcheck": {"test": healthcheck} if healthcheck else None,
    }
    return {key: value for key, value in entry.items() if value}


def declared_volumes(volumes: Iterable[str]) -> list[Addition]:
    """One declaration for each named volume, as Compose demands."""
    from sandboxfile.compose.services import volume_entry

    named = [source for kind, source, _ in map(volume_entry, volumes) if kind == "volume" and source]
    return [Addition(("volumes",), {}, name, declares=True) for name in dict.fromkeys(named)]


def _needs(names: list[str], others: Mapping[str, Any]) -> Any:
    def is_checked(name: str) -> bool:
        service = others.get(name)
        return isinstance(service, Mapping) and "healthcheck" in service

    if not any(map(is_checked, names)):
        return names
    return {n: {"condition": "service_healthy" if is_checked(n) else "service_started"} for n in names}


def _pair(word: str) -> tuple[str, str]:
    name, sign, value = word.partition("=")
    if not sign:
        raise click.UsageError(f"--env takes NAME=VALUE, got {word!r}.")
    return name, value
