"""The process: `python -I -S`, told in one JSON text what to serve, shut in before it reads a word of the guest's."""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
from typing import Any

from vmm import confine, system_calls
from vmm.fileserver import READY
from vmm.fileserver.files import Files
from vmm.fileserver.filesystem import Share
from vmm.fileserver.guest_memory import OutsideMemory
from vmm.fileserver.ring import BrokenRing
from vmm.fileserver.server import Server
from vmm.fileserver.vhost import Device, VhostError


def shut_in(
    source: str, place: str, uid: int, gid: int, *, read_only: bool, unconfined: bool, kept: set[int]
) -> tuple[int, int, list[str]]:
    """Keep the directory `source` and nothing else; returns descriptors of it and of /proc/self/fd, and what holds us.

    Of the descriptors that are open, only `kept` stay. Namespaces and Landlock each do it alone; where the host gives
    neither, CannotConfine is raised unless `unconfined`.
    """
    try:
        confine.enter_namespaces()
    except OSError as error:
        why = f"namespaces cannot be used here: {error.strerror}"
    else:
        why = ""
    directory, own = confine.open_directory(source), confine.open_directory(f"/proc/{os.getpid()}/fd")
    if not why:
        own = confine.clone_mount(own, recursive=False)
        confine.make_root(directory, place, read_only=read_only)
        directory = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(directory)  # whoever started us was somewhere
    confine.close_others({0, 1, 2, own, directory, *kept})
    confine.become(uid, gid)
    locked = confine.landlock(directory)
    if why and not locked and not unconfined:
        raise confine.CannotConfine(f"{why}, and this kernel has no Landlock")
    holds = [name for name, does in (("namespaces", not why), ("Landlock", locked)) if does]
    return directory, own, holds


def main() -> None:
    told: dict[str, Any] = json.loads(sys.argv[1])
    report = told["report"]
    try:
        os.umask(0)  # the guest's kernel has applied the one of its process
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        uid, gid = told["uid"], told["gid"]
        os.umask(0)  # the guest's kernel has applied the umask of its own process
        root, own, holds = shut_in(
            told["source"],
            told["place"],
            uid,
            gid,
            read_only=told["read_only"],
            unconfined=told["unconfined"],
            kept={report, told["listener"]},
        )
        share = Share(root, uid, gid, told["read_only"], tuple(told["protected"]))
        files = Files(share, own, min(most, 1 << 20))
        listener = socket.socket(fileno=told["listener"])
    except OSError as error:
        os.write(report, f"{error.errno} {error.strerror}".encode())
        os._exit(126)
    except confine.CannotConfine as error:
        os.write(report, f"0 {error}".encode())
        os._exit(126)
    os.write(report, f"{READY} {', '.join(holds)}".encode())
    os.close(report)
    connection, _ = listener.accept()
    listener.close()
    system_calls.refuse()
    device = Device(connection)
    try:
        Server(device, files).run()
    except (OSError, VhostError, BrokenRing, OutsideMemory) as error:
        print(f"the file server ends: {error}", file=sys.stderr)
        os._exit(1)
    os._exit(0)  # without the threads


if __name__ == "__main__":
    main()
