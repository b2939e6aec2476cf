"""Endpoints with a preset as the gateway's rules. What a preset stands for is in sandboxfile/presets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from engine.gateway.lfs import LfsDownloads
from engine.gateway.pushes import CREATE, UPDATE, Pushes, whole_ref
from engine.gateway.rules import Injection, Offer, Rule
from sandboxfile.presets.definition import REGISTRY, Preset
from sandboxfile.presets.expansion import alternatives, granted, purpose, title
from sandboxfile.sections.endpoints import Endpoint

HTTPS = 443


def preset_rules(
    endpoint: Endpoint,
    preset: Preset,
    *,
    registry: Callable[[], tuple[Rule, ...]],
    injections: Callable[[str], tuple[Injection, ...]],
    origin: str,
    place: str,
) -> list[Rule]:
    """The rules of one endpoint, all at HTTPS alone but for registries, which are where the client has them.

    `registry` are the rules of a group's hosts, `injections` those of the endpoint's secret at a host. Raises
    RegistryError when nobody knows the group.
    """
    at_registry = registry() if preset.registry else ()
    wider = list(alternatives(endpoint, preset))
    about = {"origin": f"{origin} ({title(endpoint, preset)})", "place": place, "purpose": purpose(endpoint, preset)}
    rules: list[Rule] = []
    for one in granted(endpoint, preset):
        offers = tuple(
            Offer(alternative.edit + (f"\n{alternative.note}" if alternative.note else ""), each.methods, each.paths)
            for alternative in wider
            for each in alternative.requests
            if each.host == one.host
        )
        body = _BODIES[one.body](endpoint) if one.body else None
        bases = at_registry if one.host == REGISTRY else (Rule(one.host, HTTPS),)
        for base in bases:
            given = injections(base.host) if one.secret else ()
            rules.append(
                replace(
                    base,
                    methods=one.methods,
                    paths=one.paths,
                    body=body,
                    injections=given,
                    offers=offers,
                    **about,  # type: ignore[arg-type]
                )
            )
    return rules


def _pushes(endpoint: Endpoint) -> Pushes:
    return Pushes(tuple(map(whole_ref, endpoint.push)), endpoint.changes or (CREATE, UPDATE))


_BODIES: Mapping[str, Callable[[Endpoint], Pushes | LfsDownloads]] = {
    "push": _pushes,
    "lfs-download": lambda endpoint: LfsDownloads(),
}
