"""From the endpoints of a file to the policy of the gateway and to the settings of the guest's package clients."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.gateway.policy import Policy
from engine.gateway.rules import Injection, Rule
from engine.resolve.clients import GUEST_CLIENTS
from engine.resolve.debian import SUITE, source_lines
from engine.resolve.presets import preset_rules
from engine.resolve.registries import client_settings, resolve_group
from sandboxfile import Endpoint, Loaded
from sandboxfile.names import GROUPS
from sandboxfile.presets.definition import Preset
from sandboxfile.presets.expansion import preset_of

_PORTS = {"https": 443, "http": 80}
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class Registries:
    """The registries that the named groups stand for.

    `guest_clients` maps a group to the default URLs of the guest image's own client; they are recorded when the image
    is built. They are used where the host has no such client.
    """

    guest_clients: Mapping[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of_image(cls, image: Path) -> Registries:
        """The registries with the defaults that are recorded in the cache entry of a guest image."""
        return cls(json.loads((image / GUEST_CLIENTS).read_text()))

    def policy(
        self,
        endpoints: Iterable[Endpoint],
        kinds: Mapping[str, str | None] | None = None,
        place_of: Callable[[int], str] = lambda index: "",
    ) -> Policy:
        """One rule per endpoint, several for a named group. Raises RegistryError when nobody knows the group.

        `kinds` are the kinds of the file's secrets (`Credentials.kinds`); without it requests carry none, as in builds.
        `place_of` says where an endpoint stands in the file, for the journal.
        """
        rules: list[Rule] = []
        for index, endpoint in enumerate(endpoints):
            if (preset := preset_of(endpoint)) is not None:
                rules += self._of_preset(endpoint, preset, kinds, f"endpoints[{index}]", place_of(index))
                continue
            conditions: dict[str, Any] = {"methods": endpoint.methods, "paths": endpoint.paths}
            conditions["intercept"] = endpoint.intercept
            if endpoint.group is not None:
                group = resolve_group(endpoint.group, guest_clients=self.guest_clients).rules()
                rules += [replace(rule, deny=endpoint.deny, place=place_of(index), **conditions) for rule in group]
                continue
            assert endpoint.host is not None, "the model allows a group or a host"
            if endpoint.secret is not None and kinds is not None:
                conditions |= _credentials(endpoint, endpoint.secret, endpoint.host, kinds.get(endpoint.secret))
                rules += _renewals(endpoint.secret, endpoint.host, kinds, f"endpoints[{index}]", place_of(index))
            conditions |= {"origin": f"endpoints[{index}]", "place": place_of(index)}
            rules.append(_rule_of_host(endpoint, conditions))
        return Policy(rules)

    def _of_preset(
        self, endpoint: Endpoint, preset: Preset, kinds: Mapping[str, str | None] | None, origin: str, place: str
    ) -> list[Rule]:
        def injections(host: str) -> tuple[Injection, ...]:
            if endpoint.secret is None or kinds is None:
                return ()
            from engine.secrets.rules import injections_for

            return injections_for(endpoint.secret, host, kinds.get(endpoint.secret))

        def registry() -> tuple[Rule, ...]:
            return resolve_group(preset.name, guest_clients=self.guest_clients).rules()

        return preset_rules(endpoint, preset, registry=registry, injections=injections, origin=origin, place=place)


def _rule_of_host(endpoint: Endpoint, conditions: Mapping[str, Any]) -> Rule:
    assert endpoint.host is not None
    return Rule(
        endpoint.as_ or endpoint.host,
        endpoint.port or _PORTS.get(endpoint.protocol or ""),
        endpoint.deny,
        target=endpoint.host if endpoint.as_ else "",
        raw=endpoint.protocol == "tcp",
        private=endpoint.private,
        bypass=endpoint.bypass,
        ech=endpoint.ech is not None,
        foreign_credentials=endpoint.foreign_credentials is not None,
        **conditions,
    )


def _credentials(endpoint: Endpoint, secret: str, host: str, kind: str | None) -> dict[str, Any]:
    from engine.secrets.rules import injections_for, substitution_for

    places = endpoint.secret_in or ("header",)
    found: dict[str, Any] = {"injections": injections_for(secret, host, kind)} if "header" in places else {}
    if "query" in places or "body" in places:
        query, body = "query" in places, "body" in places
        found["substitutions"] = (substitution_for(secret, host, kind, query=query, body=body),)
    return found


def _renewals(secret: str, host: str, kinds: Mapping[str, str | None], origin: str, place: str) -> Iterator[Rule]:
    """The vendor's token endpoint, where the user keeps what renews the secret."""
    from engine.secrets.rules import renewal_rule, renewing_name

    if renewing_name(secret) in kinds:
        rule = renewal_rule(secret, host, kinds.get(secret), f"{origin} (renews {secret})", place)
        if rule is not None:
            yield rule


def looks_inside(endpoints: Iterable[Endpoint]) -> bool:
    """Whether a sandbox with these endpoints intercepts TLS. Its builds may not: their requests carry no secrets."""
    return any(each.secret or each.methods or each.paths or each.intercept or preset_of(each) for each in endpoints)


def endpoint_places(loaded: Loaded) -> Callable[[int], str]:
    """Where each endpoint stands: `Sandboxfile.yaml:12`."""

    def place_of(index: int) -> str:
        found = loaded.diagnostic(("endpoints", index), "")
        return f"{found.file}:{found.position.line}" if found.position else ""

    return place_of


def client_files(endpoints: Iterable[Endpoint]) -> tuple[tuple[str, int, str], ...]:
    """(path, mode, text) of the files that make the guest's package clients use the same registries as the host's.

    Only the groups among `endpoints` have such files. Each client of the host has to be asked, which takes a moment.
    """
    settings = client_settings({endpoint.group for endpoint in endpoints if endpoint.group in GROUPS})
    files = []
    if settings.debian is not None:
        text = "".join(f"{line}\n" for line in source_lines(settings.debian, SUITE))
        files.append(("/etc/apt/sources.list", 0o644, text))
    if settings.pip_index_url is not None:
        lines = ["[global]", f"cert = {CERTIFICATES}", f"index-url = {settings.pip_index_url}"]
        for name, values in (
            ("extra-index-url", settings.pip_extra_index_urls),
            ("trusted-host", settings.pip_trusted_hosts),
        ):
            if values:
                lines.append(f"{name} = {' '.join(values)}")
        files.append(("/etc/pip.conf", 0o644, "\n".join(lines) + "\n"))
    if settings.npm_registry is not None:
        text = f"registry={settings.npm_registry}\ncafile={CERTIFICATES}\nupdate-notifier=false\nfund=false\n"
        files.append(("/etc/npmrc", 0o644, text))
    return tuple(files)
