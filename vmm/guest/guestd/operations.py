"""The operations beside `exec`, by the names that the host calls them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .docker import call_docker, wait_health
from .failure import Json
from .identity import set_identity
from .mounts import mount, unmount
from .system import ping, power_off, stat_path, trim, wait_unit

# Each runs in a thread: (request, cancelled) -> answer. `timeout_s` in the request is the host's deadline.
OPERATIONS: dict[str, Callable[[Json, threading.Event], Json]] = {
    "ping": ping,
    "identity": set_identity,
    "stat": stat_path,
    "mount": mount,
    "umount": unmount,
    "docker": call_docker,
    "health": wait_health,
    "wait_unit": wait_unit,
    "trim": trim,
    "power_off": power_off,
}
