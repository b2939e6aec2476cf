"""What to do about a step that failed while the gateway refused something it asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import EngineError
from engine.gateway.rules import WEB_PORTS
from engine.gateway.server import Gateway
from vmm.errors import VmmError

# The group of endpoints that has all hosts of a registry: what is fetched from one of them asks for the others, too.
# `sandboxfile.presets` has the same names, and a test says so. *.NAME is every name below NAME.
GROUPS = {
    "docker-hub": (
        "auth.docker.io",
        "registry-1.docker.io",
        "production.cloudflare.docker.com",
        "production.cloudfront.docker.com",
        "docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com",
    ),
    "ghcr": ("ghcr.io", "pkg-containers.githubusercontent.com"),
    "quay": ("quay.io", "*.quay.io"),
    "mcr": ("mcr.microsoft.com", "*.data.mcr.microsoft.com"),
    "gcr": ("gcr.io", "us.gcr.io", "eu.gcr.io", "asia.gcr.io"),
    "go": ("proxy.golang.org", "sum.golang.org"),
    "crates": ("index.crates.io", "static.crates.io"),
    "rubygems": ("rubygems.org", "index.rubygems.org"),
    "maven": ("repo.maven.apache.org",),
    "packagist": ("repo.packagist.org",),  # its other hosts are GitHub's
    "hex": ("repo.hex.pm", "builds.hex.pm"),
    "nuget": ("api.nuget.org",),
    "conda": ("conda.anaconda.org", "repo.anaconda.com"),
    "jsr": ("jsr.io", "npm.jsr.io"),
}
MOST_NAMED = 5


@contextmanager
def advice_on_refusals(gateway: Gateway) -> Iterator[None]:
    """Add to the hint of an error that leaves the block what was refused meanwhile for want of an endpoint.

    An error of the guest (a step's timeout, a failed copy) becomes an EngineError then.
    """
    gateway.take_unnamed()
    try:
        yield
    except (EngineError, VmmError) as error:
        if refused := gateway.take_unnamed():
            hint = "\n".join(filter(None, (advise(refused), error.hint)))
            raise EngineError(error.brief, error.details, hint, EngineError.of(error).exit_code) from error
        raise


def advise(refused: list[tuple[str, int]]) -> str:
    """For hosts and ports that no endpoint names: the command that adds them."""
    names = list(dict.fromkeys(host if port in WEB_PORTS else f"{host}:{port}" for host, port in refused))
    wanted = list(dict.fromkeys(_group_of(name) or name for name in names))
    shown = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    them = "it" if len(wanted) == 1 else "them"
    return f"the gateway refused {shown}; to allow {them}: sandbox add endpoint {' '.join(wanted[: 2 * MOST_NAMED])}"


def _group_of(host: str) -> str | None:
    for group, hosts in GROUPS.items():
        if any(host.endswith(one[1:]) if one.startswith("*") else host == one for one in hosts):
            return group
    return None
