"""The variables that name the proxies of a host. `up` reads them and hands them to the gateway (proxies.py)."""

from __future__ import annotations

from collections.abc import Mapping

VARIABLES = ("http", "https", "all", "no")  # of HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY


def host_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The proxy variables of an environment, as `Proxies` takes them. Those in lower case win, as with curl."""
    found: dict[str, str] = {}
    for key in VARIABLES:
        for name in (f"{key}_proxy", f"{key.upper()}_PROXY"):
            if name in environment:
                found[key] = environment[name].strip()
                break
    return {key: value for key, value in found.items() if value}
