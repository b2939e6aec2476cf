"""Runs in QEMU's place, with QEMU's own arguments, and tries what an attacker would who has taken QEMU over.

It greets like QEMU, writes what came of each attempt to the console, as JSON and a line END, and waits for its end.
`TOLD` in its environment says where things are. Standard library only, and little of it.
"""

# ruff: noqa: PTH102, PTH104, PTH106, PTH108, PTH123, PTH208, PTH211

import ctypes
import errno
import json
import mmap
import os
import re
import resource
import signal
import socket
import sys

told = json.loads(os.environ["TOLD"])
words = " ".join(sys.argv)
libc = ctypes.CDLL(None, use_errno=True)
victim, outside, inside = told["victim"], told["outside"], told["inside"]
ARM = os.uname().machine == "aarch64"


def inherited(name):
    return int(re.search(rf"id={name},fd=(\d+)", words)[1])


def call(x86, arm, *arguments):
    values = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result = libc.syscall(ctypes.c_long(arm if ARM else x86), *values)
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def write(path):
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))


def make(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(path)


def copy():
    os.link(outside + "/file", outside + "/second")
    os.unlink(outside + "/second")


def fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def start(program):
    """As a child where there may be one; else it would have to be the end of this process."""
    try:
        child = os.fork()
    except OSError:
        program()
        return
    if child == 0:
        try:
            program()
        except OSError as error:
            os._exit(error.errno)
    _, status = os.waitpid(child, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise OSError(code, "refused")


def from_memory():
    descriptor = os.memfd_create("program", 0)
    with open(told["true"], "rb") if outside_readable() else open("/dev/null", "rb") as file:
        os.write(descriptor, file.read() or b"\x7fELF")
    os.execve(descriptor, ["true"], {})


def outside_readable():
    try:
        os.close(os.open(told["true"], os.O_RDONLY))
    except OSError:
        return False
    return True


def connect(family, address):
    with socket.socket(family) as connection:
        connection.connect(address)


def send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", told["udp"]))


def grow_disk():
    """To a terabyte, of which nothing is written yet."""
    with open(told["disk"], "r+b") as file:
        os.ftruncate(file.fileno(), 1 << 40)
        os.ftruncate(file.fileno(), 512)


def much_memory():
    """Asked for, and not touched."""
    try:
        mmap.mmap(-1, 6 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except MemoryError:
        raise OSError(errno.ENOMEM, "refused") from None


def raise_limit():
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most + 1))


def trace():
    call(101, 117, 0x4206, victim, 0, 0)  # PTRACE_SEIZE


def look_into_starter():
    room = ctypes.create_string_buffer(16)
    here = (ctypes.c_size_t * 2)(ctypes.addressof(room), 16)
    there = (ctypes.c_size_t * 2)(told["address"], 16)
    call(310, 270, os.getppid(), here, 1, there, 1, 0)


TRIES = {
    "a file of the user's": lambda: os.close(os.open(outside + "/file", os.O_RDONLY)),
    "the user's home, list": lambda: os.listdir(outside),
    "write to the user's home": lambda: write(outside + "/file"),
    "make a file there": lambda: make(outside + "/made"),
    "link a file there": copy,
    "make a directory there": lambda: (os.mkdir(outside + "/d"), os.rmdir(outside + "/d")),
    "a link there": lambda: (os.symlink("x", outside + "/l"), os.unlink(outside + "/l")),
    "shadow": lambda: os.close(os.open("/etc/shadow", os.O_RDONLY)),
    "passwd": lambda: os.close(os.open("/etc/passwd", os.O_RDONLY)),
    "up from its own disk": lambda: os.close(os.open(inside + "/../outside/file", os.O_RDONLY)),
    "what decides about its sandbox": lambda: os.close(os.open(inside + "/configuration.json", os.O_RDONLY)),
    "write what decides": lambda: write(inside + "/configuration.json"),
    "a file beside its disk": lambda: make(inside + "/made"),
    "remove its disk": lambda: (os.rename(inside + "/disk.raw", inside + "/x"), os.rename(inside + "/x", told["disk"])),
    "write to the base that is shared": lambda: write(told["base"]),
    "the state of another sandbox": lambda: os.close(os.open(told["other"], os.O_RDONLY)),
    "all processes": lambda: os.listdir("/proc"),
    "environment of its starter": lambda: os.close(os.open(f"/proc/{os.getppid()}/environ", os.O_RDONLY)),
    "memory of its starter": lambda: os.close(os.open(f"/proc/{os.getppid()}/mem", os.O_RDONLY)),
    "devices": lambda: os.close(os.open("/dev/zero", os.O_RDONLY)),
    "devices, list": lambda: os.listdir("/dev"),
    "own memory by a file": lambda: os.close(os.open("/proc/self/mem", os.O_RDWR)),
    "a program": lambda: start(lambda: os.execv(told["true"], ["true"])),
    "its own program": lambda: start(lambda: os.execv(told["python"], ["python3", "-I", "-S", "-c", ""])),
    "a program of its own": lambda: start(lambda: os.execv(inside + "/program", ["program"])),
    "a program out of memory": lambda: start(from_memory),
    "a process": fork,
    "a process by clone3": lambda: call(435, 435, 0, 0),
    "TCP": lambda: connect(socket.AF_INET, ("127.0.0.1", told["tcp"])),
    "UDP": send,
    "listen": lambda: socket.create_server(("127.0.0.1", 0)).close(),
    "a unix socket": lambda: connect(socket.AF_UNIX, outside + "/listens"),
    "an abstract socket": lambda: connect(socket.AF_UNIX, "\0" + told["abstract"]),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "signal": lambda: os.kill(victim, 0),
    "signal to all": lambda: os.kill(-1, 0),
    "signal by thread": lambda: call(234, 131, victim, victim, 0),
    "pidfd": lambda: os.close(os.pidfd_open(victim)),
    "memory of its starter by a call": look_into_starter,
    "trace a process": trace,
    "limits of a process": lambda: resource.prlimit(victim, resource.RLIMIT_NOFILE),
    "more descriptors": raise_limit,
    "a disk without end": grow_disk,
    "memory without end": much_memory,
    "priority": lambda: os.setpriority(os.PRIO_PROCESS, victim, 5),
    "become another": lambda: start(lambda: os.setuid(told["uid"] + 1) or os._exit(0)),
    "groups": lambda: os.setgroups([0]),
    "mount": lambda: (call(165, 40, b"none", outside.encode(), b"tmpfs", 0, 0), call(166, 39, outside.encode(), 2)),
    "namespace": lambda: start(lambda: call(272, 97, 0x10000000) or os._exit(0)),
    "device node": lambda: (os.mknod(inside + "/d", 0o20600, os.makedev(1, 3)), os.unlink(inside + "/d")),
    "chroot": lambda: start(lambda: os.chroot("/tmp") or os._exit(0)),
    "keys": lambda: call(250, 219, 0, -3, 0),
    "io_uring": lambda: os.close(call(425, 425, 1, ctypes.create_string_buffer(256))),
    "shared memory": lambda: call(31, 195, call(29, 194, 0, 4096, 0o1600), 0, 0),
}
# What QEMU needs, which must still work.
OWN = {
    "its disk": lambda: write(told["disk"]),
    "its base": lambda: os.close(os.open(told["base"], os.O_RDONLY)),
    "a signal to itself": lambda: signal.raise_signal(signal.SIGCONT),
    "its limits": lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
    "a thread": lambda: __import__("_thread").start_new_thread(int, ()),
    "its memory": lambda: os.close(os.open(f"/proc/self/fd/{told['memory']}", os.O_RDWR)),
}


def outcome(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    except (ValueError, OverflowError) as error:  # how Python says that a limit may not be raised
        return repr(error)
    return ""


def main():
    results = {name: outcome(attempt) for name, attempt in {**TRIES, **OWN}.items()}
    results = {"attempts": {name: results[name] for name in TRIES}, "own": {name: results[name] for name in OWN}}
    with socket.socket(fileno=inherited("qmp")) as control, socket.socket(fileno=inherited("console")) as console:
        control.sendall(json.dumps({"QMP": {"version": {}, "capabilities": []}}).encode() + b"\r\n")
        question = json.loads(control.recv(65536))
        control.sendall(
            json.dumps({"return": {}, **{name: question[name] for name in question if name == "id"}}).encode() + b"\r\n"
        )
        console.sendall(json.dumps(results).encode() + b"\nEND\n")
        while control.recv(65536):
            pass


main()
