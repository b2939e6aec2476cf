"""The variables that programs of ours are started with."""

from __future__ import annotations

import os
from collections.abc import Mapping

CARRIER_VARIABLE = "SANDBOX_CARRIER"  # "user": the user network carries the packets also where passt would run


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables every child may see (PATH, HOME, locale, proxies of the package clients), plus `extra`."""
    keep = ("PATH", "HOME", "TMPDIR", "LANG", "USER", "LOGNAME")
    proxies = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "no_proxy", "ftp_proxy")]
    # Our own directories: they say whose a process is.
    roots = [name for name in os.environ if name.startswith("SANDBOX_") and name.endswith("_DIR")]
    environment = {name: os.environ[name] for name in (*keep, *proxies, *roots) if name in os.environ}
    environment.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    environment["LC_ALL"] = "C.UTF-8"
    environment.update(extra or {})
    return environment
