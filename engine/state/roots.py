"""Where the three roots and the configuration are, and how a sandbox's own places are called: as texts.

`Layout` makes paths of them. `exec` does with the texts: importing pathlib takes as long as half of what it does before
it has connected.
"""

from __future__ import annotations

import os
import stat
import sys

from engine.errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

APP = "sandbox"
NAME = "[a-z0-9][a-z0-9._-]{0,63}"  # of a sandbox
INSTANCES, RECORD, CONTROL = "instances", "instance.json", "control.sock"
# Bytes of a socket's path that every system allows. vmm.unix_socket has the same limit, but `ls` must not import it.
SOCKET_PATH_MAX = 103
_XDG = {
    "cache": ("XDG_CACHE_HOME", ".cache"),
    "config": ("XDG_CONFIG_HOME", ".config"),
    "state": ("XDG_STATE_HOME", ".local/state"),
}


def root_of(root: str, env: Mapping[str, str]) -> str:
    """The directory that `env` asks for: "cache", "state", "runtime" or "config". Raises EngineError.

    SANDBOX_CACHE_DIR, SANDBOX_STATE_DIR, SANDBOX_RUNTIME_DIR and SANDBOX_CONFIG_DIR override; else the platform's
    places for the user that runs this process.
    """
    variable = f"SANDBOX_{root.upper()}_DIR"
    given = env.get(variable, "")
    if not given:
        return _default_runtime(env) if root == "runtime" else platform_root(root)
    if not os.path.isabs(given):
        raise EngineError(f"{variable} must be an absolute path, not {given!r}")
    return given


def platform_root(root: str) -> str:
    """The platform's default directory for the user who runs this process. Tests make this function raise."""
    home = os.environ.get("HOME", "")
    if sys.platform == "linux" and home.startswith("/"):
        # What platformdirs says there (a test compares), without the time that its import would add to each `exec`.
        variable, default = _XDG[root]
        given = os.environ.get(variable, "")
        return os.path.join(given if given.startswith("/") else os.path.join(home, default), APP)
    import platformdirs

    ask = {"cache": platformdirs.user_cache_dir, "config": platformdirs.user_config_dir}
    return ask.get(root, platformdirs.user_state_dir)(APP, appauthor=False)


def _default_runtime(env: Mapping[str, str]) -> str:
    # After `su`, XDG_RUNTIME_DIR still names the directory of the other user: use it only if this user owns it.
    given = env.get("XDG_RUNTIME_DIR", "")
    if given.startswith("/"):
        try:
            if os.stat(given).st_uid == os.getuid():
                return os.path.join(given, APP)
        except OSError:
            pass
    return f"/tmp/{APP}-{os.getuid()}"


def is_private(status: os.stat_result) -> bool:
    """Whether it is a directory of this user that nobody else can enter."""
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def shorten(name: str) -> str:
    """The name, or its beginning and a hash: below some runtime directories a long name exceeds a socket's path."""
    return name if len(name) <= 24 else f"{name[:15]}-{digest(name.encode())[:8]}"


def digest(data: bytes) -> str:
    import hashlib  # here, since `exec` hardly ever needs it

    return hashlib.sha256(data).hexdigest()
