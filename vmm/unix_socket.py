"""Unix sockets that only their user can reach."""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path

from vmm.errors import VmmError

PATH_MAX = 107 if sys.platform == "linux" else 103  # bytes of sun_path before its NUL


def bind_private(path: Path) -> socket.socket:
    """A stream socket bound to `path`, mode 0600, not listening yet: nobody can connect before it does.

    A socket that was left in its place is replaced. Raises VmmError when the path is too long, OSError when something
    else is there already.
    """
    if len(os.fsencode(path)) > PATH_MAX:
        raise VmmError(
            f"the path of a socket is longer than {PATH_MAX} bytes: {path}", hint="use a shorter runtime directory"
        )
    listener = socket.socket(socket.AF_UNIX)
    try:
        if path.exists() and stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
        listener.bind(os.fspath(path))
        path.chmod(0o600)
    except BaseException:
        listener.close()
        raise
    return listener


def connect_now(path: Path) -> socket.socket:
    """A connection to somebody who listens at `path` already: never waits for him. Raises VmmError."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        connection.connect(os.fspath(path))
    except OSError as error:
        connection.close()
        raise VmmError(f"nobody answers at {path}", details=error.strerror) from error
    connection.setblocking(True)
    return connection
