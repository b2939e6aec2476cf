"""The operations beside `exec`, by the names that the host calls them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .docker import wait_health
from .failure import Json
from .freezer import freeze, go_on
from .identity import set_identity
from .mounts import mount
from .processors import rouse
from .system import ping, stat_path, trim, wait_unit
from .trees import write_tree

# Each runs in a thread: (request, cancelled) -> answer. `timeout_s` in the request is the host's deadline.
OPERATIONS: dict[str, Callable[[Json, threading.Event], Json]] = {
    "ping": ping,
    "identity": set_identity,
    "stat": stat_path,
    "mount": mount,
    "health": wait_health,
    "wait_unit": wait_unit,
    "tree": write_tree,
    "trim": trim,
    "freeze": freeze,
    "thaw": go_on,
    "rouse": rouse,
}
