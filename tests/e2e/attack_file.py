"""Run by root in the guest: `attack_file.py FILE [quick]` tries everything that could change FILE; prints JSON.

`quick` leaves out what takes seconds. Each attempt gives `done` or the name of its error. What it needs beside FILE it
makes in FILE's directory.
"""

# The calls themselves are what is tried.
# ruff: noqa: PTH101, PTH102, PTH103, PTH104, PTH105, PTH106, PTH108, PTH118, PTH119, PTH120, PTH123, PTH211

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import shutil
import subprocess
import sys

file = sys.argv[1]
directory = os.path.dirname(file)
other = os.path.join(directory, "others-text")
libc = ctypes.CDLL(None, use_errno=True)


def opened(flags, path=file):
    return contextlib.closing(os.fdopen(os.open(path, flags), "rb", buffering=0))


def write(flags):
    descriptor = os.open(file, flags, 0o666)
    os.write(descriptor, b"hostile\n")
    os.close(descriptor)


def copy_range():
    with opened(os.O_RDONLY, other) as source, opened(os.O_WRONLY) as target:
        os.copy_file_range(source.fileno(), target.fileno(), 4)


def map_shared():
    with opened(os.O_RDWR) as target, mmap.mmap(target.fileno(), 4) as memory:
        memory[:4] = b"host"


def write_through_proc():
    with opened(os.O_RDONLY) as reader:
        with open(f"/proc/self/fd/{reader.fileno()}", "w") as writer:
            writer.write("hostile\n")


def fallocate():
    with opened(os.O_RDWR) as target:
        os.posix_fallocate(target.fileno(), 0, 4096)


def exchange():
    if libc.syscall(316, -100, other.encode(), -100, file.encode(), 2) < 0:  # renameat2 with RENAME_EXCHANGE
        raise OSError(ctypes.get_errno(), "exchange")


def link_and_write():
    link = os.path.join(directory, "linked")
    os.link(file, link)
    with open(link, "w") as writer:
        writer.write("hostile\n")


def replace_by_link():
    link = os.path.join(directory, "soft")
    os.symlink("/etc/hostname", link)
    try:
        os.replace(link, file)
    finally:
        os.unlink(link)


def set_flags():
    with opened(os.O_RDONLY) as target:
        fcntl.ioctl(target, 0x40086602, (0x10).to_bytes(8, "little"))  # FS_IOC_SETFLAGS, immutable


def by_command(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode and "Read-only file system" in done.stderr:
        raise OSError(errno.EROFS, done.stderr)
    if done.returncode and "busy" in done.stderr:
        raise OSError(errno.EBUSY, done.stderr)
    if done.returncode:
        raise SystemExit(f"{argv} failed for another reason: {done.stderr}")


def remounted():
    for target in (directory, "/workspace", "/outer"):
        subprocess.run(["mount", "-o", "remount,rw", target], capture_output=True)
    write(os.O_WRONLY)


def second_mount():
    os.makedirs("/mnt/again", exist_ok=True)
    subprocess.run(["mount", "-t", "virtiofs", "mount0", "/mnt/again"], capture_output=True)
    try:
        target = os.path.join("/mnt/again", os.path.basename(file))
        with open(target, "r+") as writer:
            writer.write("hostile\n")
    finally:
        subprocess.run(["umount", "/mnt/again"], capture_output=True)


def in_a_container():
    script = f"echo hostile > /d/{os.path.basename(file)}"
    by_command("docker", "run", "--rm", "-v", f"{directory}:/d", "localhost/debian:13", "sh", "-c", script)


def moved_in_a_container():
    script = f"mv /d/others-text /d/{os.path.basename(file)}"
    by_command("docker", "run", "--rm", "-v", f"{directory}:/d", "localhost/debian:13", "sh", "-c", script)


ATTEMPTS = {
    "write": lambda: write(os.O_WRONLY),
    "append": lambda: write(os.O_WRONLY | os.O_APPEND),
    "truncating open": lambda: write(os.O_WRONLY | os.O_TRUNC),
    "creating open": lambda: write(os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    "read-only open that truncates": lambda: os.close(os.open(file, os.O_RDONLY | os.O_TRUNC)),
    "truncate": lambda: os.truncate(file, 0),
    "unlink": lambda: os.unlink(file),
    "rmdir": lambda: os.rmdir(file),
    "rename over": lambda: os.rename(other, file),
    "rename away": lambda: os.rename(file, os.path.join(directory, "away")),
    "exchange": exchange,
    "hard link": link_and_write,
    "replace by a link": replace_by_link,
    "chmod": lambda: os.chmod(file, 0o777),
    "chown": lambda: os.chown(file, 1234, 1234),
    "utime": lambda: os.utime(file, (1, 1)),
    "setxattr": lambda: os.setxattr(file, "user.hostile", b"1"),
    "copy_file_range": copy_range,
    "shared mapping": map_shared,
    "write through /proc": write_through_proc,
    "fallocate": fallocate,
    "inode flags": set_flags,
    "mkdir over": lambda: os.mkdir(file),
    "mknod over": lambda: os.mknod(file),
    "remount": remounted,
    "second mount": second_mount,
}
SLOW_ATTEMPTS = {"container": in_a_container, "container, rename over": moved_in_a_container}


def main():
    for tool in ("mount", "umount", "docker"):
        if shutil.which(tool) is None:  # else an attempt fails for that reason, and proves nothing
            raise SystemExit(f"there is no {tool}")
    with open(other, "w") as text:
        text.write("others\n")
    results = {}
    for name, attempt in {**ATTEMPTS, **({} if "quick" in sys.argv else SLOW_ATTEMPTS)}.items():
        try:
            attempt()
            results[name] = "done"
        except OSError as error:
            results[name] = errno.errorcode.get(error.errno, str(error.errno))
    print(json.dumps(results))


main()
