"""Shutting a process in: it keeps one directory of the host, and none of the rights that it does not need.

Called by the process itself, after it has loaded all that it will ever load. Everything here narrows, nothing can be
taken back. Standard library only, because it stands in front of processes that start in milliseconds.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct

TYPE_CHECKING = False  # typing and collections would cost each start of a process as much as all of this
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# linux/sched.h, mount.h, fcntl.h, prctl.h, landlock.h, seccomp.h; these calls have one number on every architecture.
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS = (
    0x20000,
    0x10000000,
    0x40000000,
    0x8000000,
    0x4000000,
)
MS_REC, MS_SLAVE, MNT_DETACH = 0x4000, 0x80000, 2
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_OPENAT2, SYS_MOUNT_SETATTR = 428, 429, 437, 442
SYS_LANDLOCK_CREATE, SYS_LANDLOCK_ADD, SYS_LANDLOCK_RESTRICT = 444, 445, 446
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC, AT_RECURSIVE, AT_EMPTY_PATH = 1, os.O_CLOEXEC, 0x8000, 0x1000
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 4, 0x40
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
RESOLVE_NO_SYMLINKS = 4
AT_FDCWD = -100
PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_SET_DUMPABLE = 1, 2, 4
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 24, 38, 47
CAPABILITY_VERSION_3 = 0x20080522
LANDLOCK_VERSION, LANDLOCK_PATH_BENEATH = 1, 1
# How many of the rights to files each version of Landlock knows; those to connect, bind, signal came with 4 and 6.
LANDLOCK_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
EXECUTE, WRITE_FILE, READ_FILE, READ_DIRECTORY = 1, 2, 4, 8
REMOVE_FILE, MAKE_FILE, TRUNCATE, DEVICE_CONTROL = 1 << 5, 1 << 8, 1 << 14, 1 << 15
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | DEVICE_CONTROL  # the others are those of directories
# A core dump of at most one byte: the kernel writes no file, which needs a page, and starts no program that it would
# pipe the dump to, as it does with a limit of 0 (fs/coredump.c).
NO_CORE = 1

libc = ctypes.CDLL(None, use_errno=True)


class CannotConfine(Exception):
    """This host does not let us; the text says what is missing."""


def call(number: int, *arguments: Any) -> int:
    """A system call. Raises OSError."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return checked(libc.syscall(ctypes.c_long(number), *words))


def checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def open_directory(path: str) -> int:
    """A descriptor of the directory, which must be reached without any link. Raises OSError (ELOOP)."""
    how = struct.pack("=QQQ", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS)
    return call(SYS_OPENAT2, AT_FDCWD, os.fsencode(path), how, len(how))


def unshare(spaces: int) -> None:
    """Namespaces of our own; for an ordinary user within a user namespace of our own. Raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        checked(libc.unshare(spaces))
        return
    checked(libc.unshare(spaces | CLONE_NEWUSER))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
            file.write(text)


def enter_namespaces() -> None:
    """Mounts, network, System V IPC and host name of our own. Raises OSError where the host forbids it."""
    unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
    checked(libc.mount(None, b"/", None, MS_REC | MS_SLAVE, None))


def clone_mount(descriptor: int, *, recursive: bool) -> int:
    """A mount of what `descriptor` is open on, attached nowhere: `..` at its root leads nowhere."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    return call(SYS_OPEN_TREE, descriptor, b"", flags)


def make_root(directory: int, place: str, *, read_only: bool) -> None:
    """`directory`, with what is mounted in it, becomes the root of all paths; the host's own is gone for this process.

    `place` is an empty directory to do it at. Needs namespaces of our own. Raises OSError.
    """
    tree = clone_mount(directory, recursive=True)
    try:
        attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (MOUNT_ATTR_RDONLY if read_only else 0)
        packed = struct.pack("=QQQQ", attributes, 0, 0, 0)
        call(SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH | AT_RECURSIVE, packed, len(packed))
        there = open_directory(place)
        try:
            call(SYS_MOVE_MOUNT, tree, b"", there, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
        finally:
            os.close(there)
        os.fchdir(tree)
    finally:
        os.close(tree)
    checked(libc.pivot_root(b".", b"."))
    checked(libc.umount2(b".", MNT_DETACH))
    os.chdir("/")


def close_others(kept: set[int]) -> None:
    """Close every descriptor that is not in `kept`."""
    low = 0
    for descriptor in [*sorted(kept), resource.getrlimit(resource.RLIMIT_NOFILE)[1]]:
        if low < descriptor:  # an empty range would be taken for all of them
            os.closerange(low, descriptor)
        low = descriptor + 1


def become(uid: int, gid: int) -> None:
    """Root becomes this user, and nobody keeps a capability, or can get one. Raises OSError."""
    # A change of user takes this from us as well: whoever started us wants us to end with it.
    death, parent = ctypes.c_int(), os.getppid()
    libc.prctl(PR_GET_PDEATHSIG, ctypes.byref(death), 0, 0, 0)
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            break  # the kernel knows no more, or we have no right to it
    if os.geteuid() == 0:
        try:
            os.setgroups([])
        except PermissionError:  # root of a user namespace that forbids it, who stays what he is
            if uid != 0:
                raise
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    libc.prctl(PR_CAP_AMBIENT, 4, 0, 0, 0)  # PR_CAP_AMBIENT_CLEAR_ALL
    header, nothing = struct.pack("=Ii", CAPABILITY_VERSION_3, 0), bytes(24)
    checked(libc.capset(header, nothing))
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    # A change of user takes /proc/self/fd away from us, which is our way from one descriptor to another.
    checked(libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
    checked(libc.prctl(PR_SET_PDEATHSIG, death.value, 0, 0, 0))
    if death.value and os.getppid() != parent:
        raise ProcessLookupError(errno.ESRCH, "whoever started this process has died")
    forbid_core_dumps()


def forbid_core_dumps() -> None:
    """No core dump of this process, nor of what it becomes. Raises OSError."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    limit = 0 if most == 0 else NO_CORE
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def landlock_version() -> int:
    """The version of this kernel's Landlock, 0 where there is none."""
    version = libc.syscall(ctypes.c_long(SYS_LANDLOCK_CREATE), None, ctypes.c_long(0), ctypes.c_long(LANDLOCK_VERSION))
    return max(0, int(version))


def landlock(directory: int, *, read_only: bool, needed: bool) -> bool:
    """Nothing but what is below `directory` can be opened, made or removed; no TCP, no signals to others.

    False where the kernel has no Landlock (Linux before 5.13, or switched off). Its first version (before 5.19) lets
    nobody rename or link from one directory to another, so it is used only if `needed`, where nothing else confines us.
    Needs PR_SET_NO_NEW_PRIVS. Raises OSError.
    """
    version = landlock_version()
    if version < 1 or (version == 1 and not needed):
        return False
    allowed = READ_FILE | READ_DIRECTORY if read_only else file_rights(version) & ~EXECUTE
    restrict([(directory, allowed)], version)
    return True


def file_rights(version: int) -> int:
    """All rights to files that this version of Landlock knows."""
    return (1 << LANDLOCK_FILE_RIGHTS.get(version, 16)) - 1


def restrict(beneath: Iterable[tuple[int, int]], version: int, *, ports: bool = False) -> None:
    """Landlock: of the rights to files nothing stays but what `beneath` says: descriptors, and the rights below each.

    No TCP unless `ports`, no signals to others and no abstract unix sockets, as far as `version` knows them. Needs
    PR_SET_NO_NEW_PRIVS. Raises OSError.
    """
    rights = file_rights(version)
    attributes = struct.pack("=Q", rights)
    if version >= 4:
        attributes += struct.pack("=Q", 0 if ports else 3)  # bind and connect with TCP: none is allowed
    if version >= 6:
        attributes += struct.pack("=Q", 3)  # abstract unix sockets and signals: within ourselves only
    rules = call(SYS_LANDLOCK_CREATE, attributes, len(attributes), 0)
    try:
        for descriptor, allowed in beneath:
            rule = struct.pack("=Qi", allowed & rights, descriptor)
            call(SYS_LANDLOCK_ADD, rules, LANDLOCK_PATH_BENEATH, rule, 0)
        call(SYS_LANDLOCK_RESTRICT, rules, 0)
    finally:
        os.close(rules)
