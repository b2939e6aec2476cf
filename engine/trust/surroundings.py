"""Looking up what the asks of a file depend on: this host, and the project's earlier sandboxes."""

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
    """The sensitive places of this host, our own directories among them."""
    ours = "where `sandbox` keeps "
    return Places.of_user(
        {
            layout.state.resolve(): f"{ours}what you approved, and its sandboxes",
            layout.runtime.resolve(): f"{ours}the sockets of its sandboxes",
            layout.cache.resolve(): f"{ours}its tools and images",
        }
    )


def around(layout: Layout, loaded: Loaded, *, unconfined: bool = False) -> Surroundings:
    """The surroundings of `loaded` on this host. Raises EngineError.

    Where the file names a group of registries, the host's package clients are asked, which may take a second.
    """
    try:
        credentials = credentials_of(groups) if (groups := groups_of(loaded)) else ()
    except RegistryError as error:
        raise EngineError(error.brief, error.details, error.hint) from error
    past = look_back(layout, loaded.project)
    return Surroundings(places_of(layout), Capacity.of_host(layout), past, credentials, unconfined=unconfined)
