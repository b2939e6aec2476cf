"""Checking endpoints with a preset against the preset's file, and against the other endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sandboxfile.diagnostics import Problem, did_you_mean, one_of, quote
from sandboxfile.positions import render_path
from sandboxfile.presets.definition import words_of
from sandboxfile.presets.expansion import hosts_of, preset_of
from sandboxfile.sections.endpoints import Endpoint


def check_presets(endpoints: Sequence[Endpoint]) -> Iterator[Problem]:
    """A problem for each access that a preset does not have, and for each one that another endpoint makes useless."""
    for index, endpoint in enumerate(endpoints):
        preset = preset_of(endpoint)
        if preset is None:
            continue
        words = words_of(preset)
        wrong = [(number, word) for number, word in enumerate(endpoint.access) if word not in words]
        for number, word in wrong:
            hint = did_you_mean(word, words) or f"it has {one_of(words)}: `sandbox endpoints show {preset.name}`"
            problem = f"has no access {quote(word)} to {preset.title}"
            yield Problem(("endpoints", index, "access", number), problem, hint)
        if len(set(endpoint.access)) < len(endpoint.access):
            yield Problem(("endpoints", index, "access"), "names an access twice")
        if not wrong:
            yield from _secret(endpoint, index)
            yield from _wider(endpoint, index, endpoints)


def _secret(endpoint: Endpoint, index: int) -> Iterator[Problem]:
    if endpoint.secret is not None and not hosts_of(endpoint, secret=True):
        hint = "list the host, with `methods` and `paths`"
        yield Problem(("endpoints", index, "secret"), "goes to no request of this preset", hint)


def _wider(endpoint: Endpoint, index: int, endpoints: Sequence[Endpoint]) -> Iterator[Problem]:
    """Another endpoint that allows everything at a host where this one allows some requests."""
    for other, rule in enumerate(endpoints):
        if rule.deny or rule.methods or rule.paths or rule.port not in (None, 443) or rule.protocol in ("http", "tcp"):
            continue
        whole = rule.group is not None and rule.group == endpoint.group and preset_of(rule) is None
        host = next((host for host in hosts_of(endpoint) if rule.host and _covers(rule.host, host)), None)
        if whole or host is not None:
            place = render_path(("endpoints", other))
            what = f"at {host}" if host else f"of {rule.group}"
            yield Problem(
                ("endpoints", index), f"restricts nothing {what}: {place} allows all of it", f"leave {place} out"
            )
            return


def _covers(wide: str, host: str) -> bool:
    return wide == host or (wide.startswith("*.") and host.removeprefix("*").endswith(wide[1:]))
