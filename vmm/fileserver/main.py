"""The process: `python -I -S`, told in one JSON text what to serve, shut in before it reads a word of the guest's."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import socket
import sys
from typing import Any

from vmm import confine, system_calls
from vmm.fileserver import BEGUN, READY, stand_in
from vmm.fileserver.files import Files
from vmm.fileserver.filesystem import Share
from vmm.fileserver.guest_memory import OutsideMemory
from vmm.fileserver.ring import BrokenRing
from vmm.fileserver.server import Server
from vmm.fileserver.vhost import Device, VhostError
from vmm.fileserver.watching import Watching

MEMORY_MOST = 2 << 30  # bytes of our own: a million nodes are half of it; the guest's memory does not count
NOBODY = -1  # wants to hear of the host's changes


def enter(source: str, place: str, *, read_only: bool) -> tuple[int, int]:
    """Namespaces of our own, in which `source` is the root; descriptors of it and of /proc/self/fd. Raises OSError."""
    confine.enter_namespaces()
    directory = confine.open_directory(source)
    own = confine.clone_mount(confine.open_directory(f"/proc/{os.getpid()}/fd"), recursive=False)
    confine.make_root(directory, place, read_only=read_only)
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), own


def try_namespaces(source: str, place: str, *, read_only: bool) -> str | None:
    """Why `enter` does not work on this host; None when it does.

    A child tries it, to the end: where it fails half-way (some hosts let everybody make a user namespace and refuse to
    map a user into it) there would be no way back.
    """
    child = os.fork()
    if child == 0:
        number = 0
        try:
            enter(source, place, read_only=read_only)
        except OSError as error:
            number = error.errno or errno.EIO
        finally:
            os._exit(number)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return None if code == 0 else os.strerror(code) if code > 0 else f"signal {-code}"


def shut_in(
    source: str, place: str, uid: int, gid: int, *, read_only: bool, unconfined: bool, kept: set[int]
) -> tuple[int, int, list[str]]:
    """Keep the directory `source` and nothing else; returns descriptors of it and of /proc/self/fd, and what holds us.

    Of the descriptors that are open, only `kept` stay. Namespaces and Landlock each do it alone; where the host gives
    neither, CannotConfine is raised unless `unconfined`.
    """
    why = try_namespaces(source, place, read_only=read_only)
    if why is None:
        directory, own = enter(source, place, read_only=read_only)
    else:
        directory, own = confine.open_directory(source), confine.open_directory(f"/proc/{os.getpid()}/fd")
    os.fchdir(directory)  # whoever started us was somewhere
    confine.close_others({0, 1, 2, own, directory, *kept})
    confine.become(uid, gid)
    locked = confine.landlock(directory, read_only=read_only, needed=why is not None)
    if why is not None and not locked and not unconfined:
        raise confine.CannotConfine(f"namespaces cannot be used here ({why}), and this kernel has no Landlock")
    holds = [name for name, does in (("namespaces", why is None), ("Landlock", locked)) if does]
    return directory, own, holds


def watch(descriptor: int, files: Files) -> Watching | None:
    """Watch for those at the other end of `descriptor`, unless that is NOBODY or this system cannot."""
    if descriptor == NOBODY:
        return None
    try:
        other = socket.socket(fileno=descriptor)
        return Watching(other, files.share.root, files.nodes, files.hiding, files.mount_points)
    except (OSError, AttributeError):  # a system that has no inotify
        return None


def say(report: int, word: str) -> None:
    """Tell those who have started us that QEMU has begun, or what has become of the room for the guest."""
    with contextlib.suppress(OSError):
        os.write(report, f"{word}\n".encode())


def main() -> None:
    told: dict[str, Any] = json.loads(sys.argv[1])
    report = told["report"]
    try:
        os.umask(0)  # the guest's kernel has applied the one of its process
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MOST, MEMORY_MOST))
        uid, gid = told["uid"], told["gid"]
        root, own, holds = shut_in(
            told["source"],
            told["place"],
            uid,
            gid,
            read_only=told["read_only"],
            unconfined=told["unconfined"],
            kept={report, told["listener"], told["changes"]} - {NOBODY},
        )
        share = Share(
            root,
            uid,
            gid,
            told["read_only"],
            tuple(told["protected"]),
            hidden=told["hidden"],
            mount_points=tuple(told["mount_points"]),
            file=told["file"],
            limit=told["limit"],
        )
        files = Files(share, own, min(most, 1 << 20), lambda word: say(report, word))
        files.quota.begin(root)
        listener = socket.socket(fileno=told["listener"])
        watching = watch(told["changes"], files)
    except OSError as error:
        os.write(report, f"{error.errno} {error.strerror}".encode())
        os._exit(126)
    except confine.CannotConfine as error:
        os.write(report, f"0 {error}".encode())
        os._exit(126)
    # From now on a path is one of the share: nothing is ever imported from there.
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_importer_cache.clear()
    os.write(report, f"{READY} {', '.join(holds)}\n".encode())
    os.set_blocking(report, False)  # who starts us listens, and what the guest makes us say has to fit the pipe
    heir, records = stand_in.start(report)
    connection, _ = listener.accept()
    listener.close()
    system_calls.refuse()
    device = Device(connection, records, heir)
    try:
        Server(device, files, watching, lambda: say(report, BEGUN)).run()
    except (OSError, VhostError, BrokenRing, OutsideMemory) as error:
        print(f"the file server ends: {error}", file=sys.stderr)
        os._exit(1)
    stand_in.release(heir)
    os._exit(0)  # without the threads


if __name__ == "__main__":
    main()
