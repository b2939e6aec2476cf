"""Ports on the host's loopback: is one free, and find one that is."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Collection


def port_is_free(port: int) -> bool:
    """Whether something could listen on 127.0.0.1:`port` now. May raise PermissionError for ports below 1024."""
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
    """A port that was free a moment ago, and is not in `but`: what somebody is about to take is still free."""
    with contextlib.ExitStack() as refused:  # held meanwhile, so that none comes twice
        while True:
            probe = refused.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            if (port := int(probe.getsockname()[1])) not in but:
                return port
