"""Ports of the host's loopback address: whether one is free, and finding a free one."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Collection


def port_is_free(port: int) -> bool:
    """Whether a process could listen on 127.0.0.1:`port` now. Raises PermissionError for a port that is privileged."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def pick_port(but: Collection[int] = ()) -> int:
    """A port that was free a moment ago. `but` are ports that are free, too, but that somebody is about to use."""
    with contextlib.ExitStack() as refused:  # refused ports stay taken, so that the system offers no port twice
        while True:
            probe = refused.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            if (port := int(probe.getsockname()[1])) not in but:
                return port
