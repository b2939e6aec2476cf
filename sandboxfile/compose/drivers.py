"""Drivers that the machine's Docker does not have, and values that only the user's own computer has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sandboxfile.compose.services import volume_entry
from sandboxfile.diagnostics import Problem, one_of, quote

_VOLUMES = ("local",)
_NETWORKS = ("bridge", "host", "none", "macvlan", "ipvlan")  # overlay is a swarm's
_LOGS = ("json-file", "local", "journald", "syslog", "none")  # the others send logs out, each to a vendor of its own


def check_drivers(
    services: Mapping[str, Mapping[str, Any]],
    networks: Mapping[str, Any],
    volumes: Mapping[str, Any],
    configs: Mapping[str, Any],
) -> Iterator[Problem]:
    """A problem or warning for each of them."""
    for section, entries, known in (("networks", networks, _NETWORKS), ("volumes", volumes, _VOLUMES)):
        for name, entry in entries.items():
            driver = entry.get("driver") if isinstance(entry, Mapping) and not entry.get("external") else None
            if driver not in (None, "", "default", *known):
                message = f"the machine's Docker has no driver {quote(driver)}: there is {one_of(known)}"
                yield Problem((section, name, "driver"), message, "remove it", False, "warning")
    for name, config in configs.items():
        variable = config.get("environment") if isinstance(config, Mapping) else None
        if isinstance(variable, str) and variable:
            message = f"the machine does not have the variable {quote(variable)} of this host"
            hint = f'write content: "${{{variable}}}" in its place'
            yield Problem(("configs", name, "environment"), message, hint, at_key=True)
    for name, service in services.items():
        logging = service.get("logging")
        driver = logging.get("driver") if isinstance(logging, Mapping) else None
        if driver not in (None, "", *_LOGS):
            message = f"{quote(driver)} sends logs out of the machine, and `sandbox logs` shows none"
            yield Problem(("services", name, "logging", "driver"), message, "remove it", False, "warning")
        for index, entry in enumerate(service.get("volumes") or ()):
            kind, source, _ = volume_entry(entry)
            if kind == "bind" and source.startswith("~"):
                message = f"{quote(source)} is in the machine's home directory, and not in yours"
                hint = "`mounts` brings directories of this host into the machine"
                yield Problem(("services", name, "volumes", index), message, hint, False, "warning")
