"""Unix sockets that only their user can reach."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from vmm.errors import VmmError

PATH_MAX = 107  # bytes of sun_path before its NUL (unix(7)); macOS has 103


def bind_private(path: Path) -> socket.socket:
    """A stream socket bound to `path`, mode 0600, not listening yet: nobody can connect before it does.

    Raises VmmError when the path is too long, OSError when something is there already.
    """
    if len(os.fsencode(path)) > PATH_MAX:
        raise VmmError(f"socket path too long: {path}")
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(os.fspath(path))
        path.chmod(0o600)
    except BaseException:
        listener.close()
        raise
    return listener
