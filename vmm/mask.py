"""Run a command in a mount namespace in which one directory has a place of its own, with some paths in it masked.

Used as a script: `mask.py REPORT SOURCE PLACE [KIND:PATH...] -- COMMAND...`; masking.py calls it. The directory SOURCE
appears at PLACE; PATHs in it are `read-only`. What is done to the mounts is seen by COMMAND alone. All or nothing:
where one step fails, COMMAND is not started. The descriptor REPORT is told `ready`, or an error's number and name.

The kernel enforces a mask: a masked file cannot be written, and neither it nor a directory above it can be removed,
renamed or replaced by COMMAND, since they are places of mounts. The host can do all that in its own namespace, which
takes the mount away with the file. So where there are masks this process stays, watches the directories, and masks the
new file. It ends with COMMAND and COMMAND with it.

Stdlib only and started with `-I -S`, because it stands in front of every virtiofsd. Few imports: each is paid at `up`.
"""

# ruff: noqa: SIM105 - contextlib is one of those imports

from __future__ import annotations

import ctypes
import os
import select
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

# linux/sched.h, linux/mount.h, linux/fcntl.h, linux/inotify.h, linux/prctl.h; these calls have the same numbers on all
# architectures that Debian runs on.
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_REC, MS_SLAVE = 0x4000, 0x80000
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_OPENAT2, SYS_MOUNT_SETATTR = 428, 429, 437, 442
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC, AT_RECURSIVE, AT_EMPTY_PATH = 1, os.O_CLOEXEC, 0x8000, 0x1000
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 4, 0x40
MOUNT_ATTR_RDONLY = 1
RESOLVE_NO_SYMLINKS = 4
AT_FDCWD = -100
IN_MOVED_TO, IN_CREATE, IN_DELETE_SELF, IN_MOVE_SELF = 0x80, 0x100, 0x400, 0x800
PR_SET_PDEATHSIG, SIGKILL = 1, 9

libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: Any) -> int:
    """A system call. Raises OSError."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return checked(libc.syscall(ctypes.c_long(number), *words))


def checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Opened:
    """A descriptor for the length of a block."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)


def enter_namespace() -> None:
    """A mount namespace of our own. What the host mounts later is seen in it, what we mount is seen by nobody else."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        checked(libc.unshare(CLONE_NEWNS))
    else:
        checked(libc.unshare(CLONE_NEWNS | CLONE_NEWUSER))
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
                file.write(text)
    checked(libc.mount(None, b"/", None, MS_REC | MS_SLAVE, None))


def open_directory(path: str) -> int:
    """A descriptor of the directory, which must be reached without any link."""
    how = struct.pack("=QQQ", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS)
    return call(SYS_OPENAT2, AT_FDCWD, os.fsencode(path), how, len(how))


def clone(descriptor: int) -> int:
    """A mount of what `descriptor` is open on, and of what is mounted below, attached nowhere yet."""
    return call(SYS_OPEN_TREE, descriptor, b"", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE)


def attach(tree: int, place: int) -> None:
    call(SYS_MOVE_MOUNT, tree, b"", place, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)


def mount_of(descriptor: int) -> str:
    """The number of the mount that `descriptor` was opened through."""
    with open(f"/proc/self/fdinfo/{descriptor}") as file:  # noqa: PTH123
        return next(line.split()[1] for line in file if line.startswith("mnt_id:"))


def bind(source: str, place: str) -> None:
    """The directory `source`, and what is mounted in it, also appears at `place`."""
    with Opened(open_directory(source)) as directory, Opened(clone(directory)) as tree:
        with Opened(open_directory(place)) as there:
            attach(tree, there)


def look_up(directory: int, name: str, kind: int = 0) -> int:
    """A descriptor of the entry itself, never of what a link leads to; of the mount on it if there is one."""
    return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=directory)


def fix(directory: int, name: str) -> int:
    """A descriptor of a directory that COMMAND cannot rename or remove, since something is mounted on it: itself."""
    entry = look_up(directory, name, os.O_DIRECTORY)
    if mount_of(entry) != mount_of(directory):
        return entry
    with Opened(entry), Opened(clone(entry)) as tree:
        attach(tree, entry)
    return look_up(directory, name, os.O_DIRECTORY)


def make_read_only(directory: int, name: str) -> None:
    """`name` in `directory` is mounted over itself, read-only."""
    with Opened(look_up(directory, name)) as entry:
        if mount_of(entry) != mount_of(directory) and os.fstatvfs(entry).f_flag & os.ST_RDONLY:
            return
        with Opened(clone(entry)) as tree:
            attributes = struct.pack("=QQQQ", MOUNT_ATTR_RDONLY, 0, 0, 0)
            call(SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH | AT_RECURSIVE, attributes, len(attributes))
            attach(tree, entry)


KINDS = {"read-only": make_read_only}


class Masks:
    """The masked paths below one directory, and a watch over them. `masks` are KIND:PATH."""

    def __init__(self, root: str, masks: list[str]) -> None:
        self._root = open_directory(root)
        self._masks = [(kind, path.split("/")) for mask in masks for kind, _, path in [mask.partition(":")]]
        self._names = {os.fsencode(name) for _, parts in self._masks for name in parts}
        self.events = checked(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        self.descriptors = {self._root, self.events}

    def apply(self) -> None:
        """Mask what is there and not masked yet. A path that does not exist is masked when it appears."""
        for kind, parts in self._masks:
            try:
                self._apply(kind, parts, self._root)
            except FileNotFoundError:
                pass  # what goes away while we look makes no event, but what comes in its place does

    def _apply(self, kind: str, parts: list[str], directory: int) -> None:
        # Watching a directory again changes nothing.
        interest = IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF
        checked(libc.inotify_add_watch(self.events, f"/proc/self/fd/{directory}".encode(), interest))
        first, *rest = parts
        if not rest:
            KINDS[kind](directory, first)
            return
        with Opened(fix(directory, first)) as inner:
            self._apply(kind, rest, inner)

    def concerned(self) -> bool:
        """Read all that has happened, and say whether it may be about one of ours."""
        concerned = False
        try:
            while data := os.read(self.events, 65536):
                while data:
                    _, _, _, size = struct.unpack_from("=iIII", data)
                    name = data[16 : 16 + size].rstrip(b"\0")
                    data = data[16 + size :]
                    # Without a name: the directory itself, or more happened than the kernel kept.
                    concerned = concerned or not name or name in self._names
        except BlockingIOError:
            pass
        return concerned


def start(command: list[str]) -> int:
    """COMMAND as our child, which is killed when we end. Returns its pid."""
    us = os.getpid()
    child = os.fork()
    if child == 0:
        libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        if os.getppid() != us:
            os._exit(125)
        become(command)
    return child


def become(command: list[str]) -> NoReturn:
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
    os._exit(127)


def watch(masks: Masks, child: int) -> NoReturn:
    """Mask again what the host replaces, until COMMAND ends; then end as it did."""
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(masks.events, select.POLLIN)
    poll.register(ended, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if ended in ready:
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status):
                os.kill(os.getpid(), os.WTERMSIG(status))
            os._exit(os.waitstatus_to_exitcode(status))
        if masks.concerned():
            try:
                masks.apply()
            except (PermissionError, NotADirectoryError):
                pass  # what we may not enter, COMMAND may not either


def main() -> None:
    split = sys.argv.index("--")
    number, source, place, *masked = sys.argv[1:split]
    report, command = int(number), sys.argv[split + 1 :]
    try:
        enter_namespace()
        bind(source, place)
        masks = Masks(place, masked) if masked else None
        if masks is not None:
            masks.apply()
    except OSError as error:
        os.write(report, f"{error.errno} {error.strerror}".encode())
        os._exit(126)
    os.set_inheritable(report, False)  # its end says that there is no more to come
    if masks is None:
        os.write(report, b"ready")
        become(command)
    child = start(command)
    os.write(report, b"ready")
    # The command's own descriptors are its alone: a listening socket must be gone when it is.
    for descriptor in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208
        if descriptor > 2 and descriptor not in masks.descriptors:
            try:
                os.close(descriptor)
            except OSError:
                pass  # that of the listing itself
    watch(masks, child)


if __name__ == "__main__":
    main()
