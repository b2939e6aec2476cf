"""A program in the place of the file server: shut in like it, it tries what an attacker would who has taken it over."""

from __future__ import annotations

import json

import pytest
from server_process import Place, Refused

ATTEMPTS = """
import ctypes, errno, json, os, signal, socket, sys
sys.path.insert(0, sys.argv[1])
from vmm import confine, system_calls
from vmm.fileserver.main import shut_in
told = json.loads(sys.argv[2])
parent, theirs, listener = os.getppid(), int(sys.argv[3]), sys.argv[4]
libc = ctypes.CDLL(None, use_errno=True)
_, own, holds = shut_in(told["source"], told["place"], told["uid"], told["gid"],
    read_only=False, unconfined=told["unconfined"], kept={told["report"]})
filtered = system_calls.refuse()
def call(name, *arguments):
    numbers = {**system_calls.REFUSED, "clone3": (435, 435)}[name]
    number = numbers[0 if os.uname().machine == "x86_64" else 1]
    if number is not None:
        words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
        return confine.checked(libc.syscall(ctypes.c_long(number), *words))
    raise OSError(errno.EPERM, "no such call here")
def connect_inet():
    with socket.socket() as s:
        s.connect(("127.0.0.1", theirs))
def connect_unix(name):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(name)
def fork():
    if os.fork() == 0:
        os._exit(0)
    os.wait()
outside, room = told["outside"], ctypes.create_string_buffer(256)
tries = {
    "passwd": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "root": lambda: os.open("/root", os.O_RDONLY),
    "outside": lambda: os.open(outside + "/file", os.O_RDONLY),
    "outside, list": lambda: os.listdir(outside),
    "outside, write": lambda: os.open(outside + "/file", os.O_WRONLY | os.O_TRUNC),
    "outside, make": lambda: os.mkdir(outside + "/made"),
    "outside, remove": lambda: os.unlink(outside + "/file"),
    "outside, link": lambda: os.symlink("x", outside + "/link"),
    "outside, up": lambda: os.open("../outside/file", os.O_RDONLY),
    "far up": lambda: os.open("../" * 20 + "etc/passwd", os.O_RDONLY),
    "proc": lambda: os.open("/proc/self/mem", os.O_RDWR),
    "proc of the parent": lambda: os.open(f"/proc/{parent}/environ", os.O_RDONLY),
    "up from proc": lambda: os.open("../environ", os.O_RDONLY, dir_fd=own),
    "up from proc to root": lambda: os.open("../root/etc/passwd", os.O_RDONLY, dir_fd=own),
    "all processes": lambda: os.listdir("/proc"),
    "another process, by descriptor": lambda: os.open(f"../../{parent}/environ", os.O_RDONLY, dir_fd=own),
    "memory of the parent": lambda: call("process_vm_readv", parent, room, 1, room, 1, 0),
    "priority of the parent": lambda: os.setpriority(os.PRIO_PROCESS, parent, 5),
    "devices": lambda: os.open("/dev/zero", os.O_RDONLY),
    "execve": lambda: os.execv("/bin/true", ["true"]),
    "own program": lambda: os.execv(sys.executable, ["python3", "-c", "0"]),
    "program in the share": lambda: os.execv(told["inside"], ["x"]),
    "fork": fork,
    "vfork": lambda: call("vfork") if os.uname().machine == "aarch64" else fork(),
    "clone3": lambda: call("clone3", 0, 0),
    "connect": connect_inet,
    "UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", theirs)),
    "a pair of sockets": lambda: socket.socketpair(),
    "connect to a unix socket": lambda: connect_unix(listener),
    "connect to an abstract socket": lambda: connect_unix("\\0" + listener),
    "listen": lambda: socket.create_server(("127.0.0.1", 0)).close(),
    "packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "kill": lambda: os.kill(parent, 0),
    "tgkill": lambda: call("tgkill", parent, parent, 0),
    "ptrace": lambda: call("ptrace", 16, parent, 0, 0),
    "pidfd": lambda: os.pidfd_open(parent),
    "limits of the parent": lambda: call("prlimit64", parent, 0, 0, 0),
    "mount": lambda: call("mount", b"none", b"/", b"tmpfs", 0, 0),
    "umount": lambda: call("umount2", b"/", 2),
    "open_tree": lambda: call("open_tree", -100, b"/", 1),
    "fsopen": lambda: call("fsopen", b"tmpfs", 0),
    "unshare": lambda: call("unshare", 0x10000000),
    "setns": lambda: call("setns", own, 0),
    "chroot": lambda: os.chroot("/"),
    "name_to_handle_at": lambda: call("name_to_handle_at", -100, b"/", room, room, 0),
    "open_by_handle_at": lambda: call("open_by_handle_at", own, room, 0),
    "shared memory": lambda: call("shmget", 0, 4096, 0o1600),
    "message queue": lambda: call("mq_open", b"q", 0o102, 0o600, 0),
    "bpf": lambda: call("bpf", 0, 0, 0),
    "io_uring": lambda: call("io_uring_setup", 1, room),
    "userfaultfd": lambda: call("userfaultfd", 0),
    "perf": lambda: call("perf_event_open", 0, 0, 0, 0, 0),
    "keys": lambda: call("keyctl", 0, 0, 0),
    "setuid": lambda: os.setuid(told["uid"] + 1),
    "setgroups": lambda: os.setgroups([0]),
    "device": lambda: os.mknod("device", 0o20666, os.makedev(1, 3)),
}
results = {}
for name, attempt in tries.items():
    try:
        attempt()
        results[name] = ""
    except OSError as error:
        results[name] = errno.errorcode.get(error.errno, str(error.errno))
fd = os.open("made-inside", os.O_CREAT | os.O_RDWR, 0o600)  # what it is for still works
os.write(fd, b"x")
import threading
thread = threading.Thread(target=lambda: results.update(thread="runs"))
thread.start()
thread.join()
os.write(told["report"], ("report " + json.dumps({"results": results, "holds": holds, "filtered": filtered})).encode())
"""


def attempted(place: Place, before: str = "") -> dict[str, object]:
    """What came of it, in a process that was shut in the same way."""
    import socket

    place.write("share/program", "#!/bin/sh\n").chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        script = before.replace("sys.argv[1]", repr(str(place.code))) + ATTEMPTS
        script = script.replace("int(sys.argv[3])", str(listener.getsockname()[1]))
        script = script.replace("sys.argv[4]", repr(str(place.base / "run" / "s.sock")))
        script = script.replace(
            "told = json.loads(sys.argv[2])",
            f"told = {{**json.loads(sys.argv[2]), 'outside': {str(place.outside)!r}, 'inside': '/program'}}",
        )
        try:
            with place.serve(start=script):
                raise AssertionError("it is not the server")
        except Refused as done:
            word, _, report = str(done).partition(" ")
            assert word == "report", (done.args, done.words)
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
    return dict(json.loads(report))
