"""What of this host, and of the project's past, decides about what a file asks."""

from __future__ import annotations

from engine.errors import EngineError
from engine.resolve.capacity import Capacity
from engine.resolve.clients import RegistryError
from engine.resolve.registries import credentials_of
from engine.state.layout import Layout
from engine.trust.asks import Surroundings, groups_of
from engine.trust.places import Places
from engine.trust.unnamed import look_back
from sandboxfile import Loaded


def places_of(layout: Layout) -> Places:
    """The places of this host to tell of, our own directories among them."""
    ours = "where `sandbox` keeps "
    return Places.of_user(
        {
            layout.state.resolve(): f"{ours}what you approved, and its sandboxes",
            layout.runtime.resolve(): f"{ours}the sockets of its sandboxes",
            layout.cache.resolve(): f"{ours}its tools and images",
        }
    )


def around(layout: Layout, loaded: Loaded, *, unconfined: bool = False) -> Surroundings:
    """Asks the host's package clients where the file names a group, which may take a second. Raises EngineError."""
    try:
        credentials = credentials_of(groups) if (groups := groups_of(loaded)) else ()
    except RegistryError as error:
        raise EngineError(error.brief, error.details, error.hint) from error
    past = look_back(layout, loaded.project)
    return Surroundings(places_of(layout), Capacity.of_host(layout), past, credentials, unconfined=unconfined)
