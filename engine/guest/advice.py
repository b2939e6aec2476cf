"""What to do about a step that failed while the gateway refused something it asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import EngineError
from engine.gateway.rules import WEB_PORTS
from engine.gateway.server import Gateway
from vmm.errors import VmmError

# A pull from one of them asks for the others too. `sandboxfile.compose.images` has the same names, and a test says so.
DOCKER_HUB = ("auth.docker.io", "registry-1.docker.io", "production.cloudflare.docker.com")
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
    wanted = names
    if any(name in DOCKER_HUB for name in wanted):
        wanted = list(dict.fromkeys([*wanted, *DOCKER_HUB]))  # the next pull would ask for the others
    shown = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    them = "it" if len(wanted) == 1 else "them"
    return f"the gateway refused {shown}; to allow {them}: sandbox add endpoint {' '.join(wanted[: 2 * MOST_NAMED])}"
