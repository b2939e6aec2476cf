"""From the endpoints of a file to the policy of the gateway and to the settings of the guest's package clients."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.gateway.policy import Policy, Rule
from engine.resolve.clients import GUEST_CLIENTS
from engine.resolve.debian import SUITE, source_lines
from engine.resolve.registries import client_settings, resolve_group
from sandboxfile import Endpoint

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

    def policy(self, endpoints: Iterable[Endpoint]) -> Policy:
        """The policy: one rule for each endpoint, several for a named group.

        Raises RegistryError when a group cannot be resolved.
        """
        rules: list[Rule] = []
        for index, endpoint in enumerate(endpoints):
            if endpoint.group is not None:
                rules += resolve_group(endpoint.group, guest_clients=self.guest_clients).rules()
            else:
                assert endpoint.host is not None, "the model allows a group or a host"
                rules.append(Rule(endpoint.host, endpoint.port, deny=endpoint.deny, origin=f"endpoints[{index}]"))
        return Policy(rules)


def client_files(endpoints: Iterable[Endpoint]) -> tuple[tuple[str, int, str], ...]:
    """(path, mode, text) of the files that make the guest's package clients use the same registries as the host's.

    Only the groups among `endpoints` have such files. Each client of the host has to be asked, which takes a moment.
    """
    settings = client_settings({endpoint.group for endpoint in endpoints if endpoint.group})
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
