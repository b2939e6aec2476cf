"""From an endpoint with a preset to the requests that it allows, and to those that another edit of it would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sandboxfile.names import GROUPS, PARAMETERISED
from sandboxfile.presets.definition import REGISTRY, REPOSITORY, Access, Preset, Requests, load_preset
from sandboxfile.sections.endpoints import Endpoint
from sandboxfile.writing.notation import Hand


@dataclass(frozen=True)
class Granted:
    """Requests of one host, with the words of the endpoint in their place. `host` {registry}: the client's."""

    host: str
    methods: tuple[str, ...]
    paths: tuple[str, ...]
    secret: bool = False
    body: str | None = None


def preset_of(endpoint: Endpoint) -> Preset | None:
    """The preset that an endpoint stands for; None for a host, and for a group that is not narrowed."""
    name = endpoint.group or next((name for name in PARAMETERISED if getattr(endpoint, name)), None)
    if name is None:
        return None
    if name in GROUPS and not endpoint.access:
        return None
    return load_preset(name)


def words_granted(endpoint: Endpoint, preset: Preset) -> tuple[str, ...]:
    """The words that an endpoint asks for, `push` last. The default is meant where it names none."""
    words = endpoint.access or ((preset.default,) if preset.default else ())
    return (*words, "push") if endpoint.push else tuple(words)


def granted(endpoint: Endpoint, preset: Preset) -> tuple[Granted, ...]:
    """What an endpoint allows, one for each host and kind of body and methods: their paths are put together."""
    accesses = dict(preset.accesses())
    found: dict[tuple[Any, ...], dict[str, None]] = {}
    for word in words_granted(endpoint, preset):
        for requests in accesses[word].requests:
            key = (requests.host, tuple(sorted(requests.methods)), requests.secret, requests.body, not requests.paths)
            found.setdefault(key, {}).update(dict.fromkeys(_paths(endpoint, requests)))
    return tuple(
        Granted(host, methods, tuple(paths), secret, body) for (host, methods, secret, body, _), paths in found.items()
    )


def _paths(endpoint: Endpoint, requests: Requests) -> Iterator[str]:
    for path in requests.paths:
        if REPOSITORY in path:
            yield from (path.replace(REPOSITORY, repository) for repository in endpoint.github)
        else:
            yield path


def hosts_of(endpoint: Endpoint, *, secret: bool = False) -> tuple[str, ...]:
    """The hosts of an endpoint with a preset, those that its secret goes to alone if asked; none for all others."""
    preset = preset_of(endpoint)
    if preset is None:
        return ()
    hosts = [one.host for one in granted(endpoint, preset) if one.secret or not secret]
    return tuple(host for host in dict.fromkeys(hosts) if host != REGISTRY)


@dataclass(frozen=True)
class Alternative:
    """What an endpoint does not allow, and the endpoint, as YAML, that would. `note` is what to know before."""

    edit: str
    requests: tuple[Granted, ...]
    note: str = ""


def alternatives(endpoint: Endpoint, preset: Preset) -> Iterator[Alternative]:
    """One for each word that is not granted."""
    has = words_granted(endpoint, preset)
    for word, access in preset.accesses():
        if word in has:
            continue
        wider = _with(endpoint, word, has)
        requests = tuple(
            Granted(one.host, one.methods, tuple(_paths(endpoint, one)), one.secret, one.body)
            for one in access.requests
        )
        yield Alternative(f"- {Hand().flow(_written(wider))}", requests, access.note or "")


def _with(endpoint: Endpoint, word: str, has: tuple[str, ...]) -> Endpoint:
    if word == "push":
        return endpoint.model_copy(update={"push": ("agent/*",)})
    words = tuple(each for each in has if each != "push")
    return endpoint.model_copy(update={"access": (*words, word)})


def _written(endpoint: Endpoint) -> dict[str, Any]:
    """As people write it: no default, and a list of one as its one entry, except where lists are usual."""
    data = endpoint.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    single = {key: value[0] for key, value in data.items() if key in ("github", "access") and len(value) == 1}
    return {**data, **single}


def purpose(endpoint: Endpoint, preset: Preset) -> str:
    """What it allows, in words."""
    accesses: dict[str, Access] = dict(preset.accesses())
    parts = [accesses[word].summary for word in words_granted(endpoint, preset)]
    of = f" of {', '.join(endpoint.github)}" if endpoint.github else ""
    refs = f" ({', '.join(endpoint.push)})" if endpoint.push else ""
    return f"{preset.title}{of}: {'; '.join(parts)}{refs}"


def title(endpoint: Endpoint, preset: Preset) -> str:
    """What messages call it."""
    words = ", ".join(words_granted(endpoint, preset))
    of = ", ".join(endpoint.github[:2]) + (", ..." if len(endpoint.github) > 2 else "")
    return f"{preset.name}{f' {of}' if of else ''}: {words}"
