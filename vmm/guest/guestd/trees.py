"""Writing a small tree of files at once: under emulation, to start a tar for it takes longer than all the rest."""

from __future__ import annotations

import base64
import contextlib
import os
import stat
import threading

from .failure import Failure, Json

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_tree(request: Json, cancelled: threading.Event) -> Json:
    """Write `entries` [[name, kind, mode, time of change in ns, content]] at `target`, which is made when missing, all
    owned by `uid`. Kinds are directory, file (base64) and link (its target). What is there is replaced as tar does it:
    directories stay, with what else is in them."""
    target, uid = request["target"], int(request["uid"])
    os.makedirs(target, exist_ok=True)
    os.chown(target, uid, uid)
    directories = []
    for name, kind, mode, time_ns, content in request["entries"]:
        path = os.path.join(target, name)
        try:
            if kind == "directory":
                directories.append((path, time_ns))
                _make_directory(path, mode, uid)
            elif kind == "link":
                _clear(path)
                os.symlink(content, path)
                os.chown(path, uid, uid, follow_symlinks=False)
                os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)
            else:
                _write(path, base64.b64decode(content), mode, uid, time_ns)
        except OSError as error:
            raise Failure(f"{path}: {os.strerror(error.errno or 0)}") from None
        if cancelled.is_set():
            break
    for path, time_ns in reversed(directories):  # what is written into one changes its time
        os.utime(path, ns=(time_ns, time_ns))
    return {}


def _make_directory(path: str, mode: int, uid: int) -> None:
    if not _is_directory(path):
        _clear(path)
        os.makedirs(path)
    os.chmod(path, mode)
    os.chown(path, uid, uid)


def _write(path: str, content: bytes, mode: int, uid: int, time_ns: int) -> None:
    _clear(path)
    descriptor = os.open(path, FLAGS, 0o600)
    with open(descriptor, "wb") as file:
        os.fchown(descriptor, uid, uid)
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.utime(descriptor, ns=(time_ns, time_ns))


def _clear(path: str) -> None:
    """Nothing is at `path`, and the directory that it is in is there."""
    try:
        os.unlink(path)
    except IsADirectoryError:
        os.rmdir(path)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.makedirs(os.path.dirname(path))


def _is_directory(path: str) -> bool:
    """A directory, and no link to one."""
    with contextlib.suppress(FileNotFoundError):
        return stat.S_ISDIR(os.lstat(path).st_mode)
    return False
