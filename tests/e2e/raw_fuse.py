"""Run by root in the guest: takes the virtiofs devices from the kernel and speaks FUSE to the host by itself.

`raw_fuse.py OUTSIDE MOUNT...`: OUTSIDE is a directory of the host beside the shared ones; each MOUNT is a mount point,
unmounted first. Prints JSON: for each tag, what was tried with its errno, "done" or "silent". No kernel sends what this
sends: registers are reached through sysfs, addresses of the memory through /proc/self/pagemap.
"""

# The calls themselves are what is tried.
# ruff: noqa: PTH103, PTH119, PTH120, PTH123, PTH207

import ctypes
import errno
import glob
import json
import mmap
import os
import stat
import struct
import subprocess
import sys
import time

LOOKUP, FORGET, GETATTR, SETATTR, READLINK, SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK = (
    1,
    2,
    3,
    4,
    5,
    6,
    *range(8, 14),
)
OPEN, READ, WRITE, RELEASE, SETXATTR, GETXATTR, INIT, OPENDIR, READDIR = 14, 15, 16, 18, 21, 22, 26, 27, 28
CREATE, IOCTL, BATCH_FORGET, FALLOCATE, RENAME2, SETUPMAPPING, TMPFILE = 35, 39, 42, 43, 45, 48, 51
PAGE, QUEUE = 4096, 16
ANSWER_S = 20.0
RESET, ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK = 0, 1, 2, 4, 8
libc = ctypes.CDLL(None, use_errno=True)


class Silent(Exception):
    pass


class Memory:
    """Pages that stay where they are, with their addresses."""

    def __init__(self, pages):
        self.bytes = mmap.mmap(-1, pages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x8000)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.bytes))
        for page in range(pages):
            self.bytes[page * PAGE] = 1
        assert libc.mlock(ctypes.c_void_p(start), ctypes.c_size_t(pages * PAGE)) == 0
        self.at = []
        with open("/proc/self/pagemap", "rb") as file:
            for page in range(pages):
                file.seek((start // PAGE + page) * 8)
                self.at.append((struct.unpack("<Q", file.read(8))[0] & ((1 << 55) - 1)) * PAGE)
        assert all(self.at), "no addresses"


class Device:
    """One virtiofs device without a driver."""

    def __init__(self, pci):
        self.pci = pci
        with open(f"{pci}/enable", "w") as file:
            file.write("1")
        with open(f"{pci}/config", "r+b", buffering=0) as file:
            config = os.pread(file.fileno(), 256, 0)
            command = struct.unpack_from("<H", config, 4)[0]
            os.pwrite(file.fileno(), struct.pack("<H", command | 6), 4)  # memory, bus master
        self.places, at = {}, config[0x34]
        while at:
            if config[at] == 9:
                kind, bar, offset = config[at + 3], config[at + 4], struct.unpack_from("<I", config, at + 8)[0]
                factor = struct.unpack_from("<I", config, at + 16)[0] if kind == 2 else 0
                self.places.setdefault(kind, (bar, offset, factor))
            at = config[at + 1]
        self.bars = {}
        self.tag = bytes(self._read(4, at, 1)[0] for at in range(36)).rstrip(b"\0").decode()
        self.memory = Memory(16)

    def _bar(self, kind):
        bar, offset, _ = self.places[kind]
        if bar not in self.bars:
            file = os.open(f"{self.pci}/resource{bar}", os.O_RDWR | os.O_SYNC)
            self.bars[bar] = mmap.mmap(file, os.fstat(file).st_size)
        return ctypes.addressof(ctypes.c_char.from_buffer(self.bars[bar])) + offset

    def _register(self, kind, at, size):
        return {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32}[size].from_address(self._bar(kind) + at)

    def _read(self, kind, at, size):
        return self._register(kind, at, size).value.to_bytes(size, "little")

    def common(self, at, size, value=None):
        register = self._register(1, at, size)
        if value is None:
            return register.value
        register.value = value
        return value

    def start(self):
        """Reset it, and set up both queues and FUSE."""
        self.common(0x14, 1, RESET)
        while self.common(0x14, 1):
            pass
        self.common(0x14, 1, ACKNOWLEDGE | DRIVER)
        for half, value in ((1, 1), (0, 0)):  # VERSION_1 and nothing else
            self.common(8, 4, half)
            self.common(12, 4, value)
        self.common(0x14, 1, ACKNOWLEDGE | DRIVER | FEATURES_OK)
        assert self.common(0x14, 1) & FEATURES_OK
        for queue, page in ((0, 8), (1, 0)):
            self.memory.bytes[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
            self.common(0x16, 2, queue)
            self.common(0x18, 2, QUEUE)
            for at, offset in ((0x20, 0), (0x28, 512), (0x30, 1024)):
                address = self.memory.at[page] + offset
                self.common(at, 4, address & 0xFFFFFFFF)
                self.common(at + 4, 4, address >> 32)
            self.common(0x1C, 2, 1)
        self.common(0x16, 2, 1)
        notify = self.common(0x1E, 2) * self.places[2][2]
        self.common(0x14, 1, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
        self.notify = self._register(2, notify, 2)
        self.available, self.unique = 0, 0
        flags = struct.pack("<IIII", 7, 41, 0x20000, 0xFFFFFFFF) + struct.pack("<I", 0x0FFFFFFF) + bytes(44)
        assert self.ask(INIT, 0, flags)[0] == 0

    def stop(self):
        self.common(0x14, 1, RESET)

    def offer(self, chain, wait_s=ANSWER_S):
        memory = self.memory.bytes
        for at, descriptor in enumerate(chain):
            memory[16 * at : 16 * at + 16] = struct.pack("<QIHH", *descriptor)
        slot = 516 + 2 * (self.available % QUEUE)
        memory[slot : slot + 2] = bytes(2)
        self.available = (self.available + 1) & 0xFFFF
        memory[514:516] = struct.pack("<H", self.available)
        self.notify.value = 1
        end = time.monotonic() + wait_s
        while struct.unpack_from("<H", memory, 1026)[0] != self.available:
            if time.monotonic() > end:
                raise Silent

    def ask(self, operation, node, body=b"", length=None):
        """(errno, what follows the header)"""
        memory, at = self.memory.bytes, self.memory.at
        self.unique += 2
        size = 40 + len(body)
        head = struct.pack(
            "<IIQQIIIHH", size if length is None else length, operation, self.unique, node, 0, 0, 1, 0, 0
        )
        request = head + body
        assert size <= 3 * PAGE
        memory[PAGE : PAGE + size] = request
        memory[4 * PAGE : 5 * PAGE] = bytes(PAGE)
        parts = [(at[1 + n], min(size - n * PAGE, PAGE)) for n in range(-(-size // PAGE))]
        chain = [(address, part, 1, n + 1) for n, (address, part) in enumerate(parts)]
        self.offer([*chain, (at[4], PAGE, 2, 0)])
        filled, error, unique = struct.unpack_from("<IiQ", memory, 4 * PAGE)
        assert unique == self.unique or not filled
        return -error, bytes(memory[4 * PAGE + 16 : 4 * PAGE + max(16, min(filled, PAGE))])


def z(name):
    return (name if isinstance(name, bytes) else name.encode()) + b"\0"


def make_requests(name, node):
    """Every operation that takes a name."""
    yield "lookup", LOOKUP, z(name)
    yield "symlink", SYMLINK, z(name) + z("/etc/passwd")
    yield "mkdir", MKDIR, struct.pack("<II", 0o755, 0) + z(name)
    for kind, device in ((stat.S_IFREG, 0), (stat.S_IFIFO, 0), (stat.S_IFCHR, 0x103), (stat.S_IFBLK, 0x800)):
        yield f"mknod {kind:o}", MKNOD, struct.pack("<IIII", kind | 0o666, device, 0, 0) + z(name)
    yield "create", CREATE, struct.pack("<IIII", os.O_RDWR, 0o644, 0, 0) + z(name)
    yield "link", LINK, struct.pack("<Q", node) + z(name)
    yield "rename to", RENAME, struct.pack("<Q", 1) + z("file") + z(name)
    yield "rename from", RENAME, struct.pack("<Q", 1) + z(name) + z("got")
    for flags in (0, 1, 2, 4):
        yield f"rename2 {flags} to", RENAME2, struct.pack("<QII", 1, flags, 0) + z("file") + z(name)
        yield f"rename2 {flags} from", RENAME2, struct.pack("<QII", 1, flags, 0) + z(name) + z("got")
    yield "unlink", UNLINK, z(name)
    yield "rmdir", RMDIR, z(name)
    yield "setxattr", SETXATTR, struct.pack("<II", 1, 0) + z(name) + b"x"
    yield "tmpfile", TMPFILE, struct.pack("<IIII", os.O_RDWR, 0o644, 0, 0) + z(name)


def attack(device, outside):
    results = {}

    def attempt(label, operation, node, body, **options):
        try:
            error, data = device.ask(operation, node, body, **options)
        except Silent:
            results[label] = "silent"
            device.start()
            return b""
        results[label] = errno.errorcode.get(error, str(error)) if error else "done"
        return data if not error else b""

    def look_up(name, parent=1):
        error, data = device.ask(LOOKUP, parent, z(name))
        return struct.unpack_from("<Q", data)[0] if not error else 0

    device.start()
    file, directory = look_up("file"), look_up("directory")
    assert file and directory, "the share is not what the test made"
    names = {
        "absolute": f"{outside}/victim", "absolute new": f"{outside}/new", "up": "../outside/victim", "dots": "..",
        "far up": "../" * 30 + outside.lstrip("/") + "/victim", "dot": ".", "down and up": "directory/../..",
        "down": "directory/below", "empty": "", "NUL": b"fi\0le", "256": "n" * 256, "4096": "n" * 4096,
    }  # fmt: skip
    for label, name in names.items():
        for node in (1, directory):
            for what, operation, body in make_requests(name, file):
                attempt(f"{label}: {what} at {node}", operation, node, body)
                attempt(f"{label}: {what} at {node} without NUL", operation, node, body[:-1])
    for node in (0, 999_999, 1 << 63, (1 << 64) - 1):
        for what, operation, body in make_requests("new", file):
            attempt(f"node {node}: {what}", operation, node, body)
        attempt(f"node {node}: getattr", GETATTR, node, bytes(16))
        attempt(f"node {node}: open", OPEN, node, struct.pack("<II", os.O_RDWR, 0))
    for handle in (0, 999, (1 << 64) - 1):
        attempt(f"handle {handle}: read", READ, file, struct.pack("<QQIIQII", handle, 0, 100, 0, 0, 0, 0))
        attempt(f"handle {handle}: write", WRITE, file, struct.pack("<QQIIQII", handle, 0, 4, 0, 0, 0, 0) + b"evil")
    # Links of ours, and what lies behind them.
    for name, target in (("link", outside), ("link-file", f"{outside}/victim"), ("link-up", "../outside")):
        device.ask(SYMLINK, 1, z(name) + z(target))
        if link := look_up(name):
            attempt(f"{name}: open", OPEN, link, struct.pack("<II", 0, 0))
            attempt(f"{name}: opendir", OPENDIR, link, struct.pack("<II", 0, 0))
            attempt(f"{name}: lookup below", LOOKUP, link, z("victim"))
            attempt(f"{name}: create below", CREATE, link, struct.pack("<IIII", os.O_RDWR, 0o644, 0, 0) + z("new"))
            device.ask(UNLINK, 1, z(name))
    # Protected files.
    device.ask(MKNOD, 1, struct.pack("<IIII", stat.S_IFREG | 0o644, 0, 0, 0) + z("other"))
    for name in ("Sandboxfile.yaml", "Sandboxfile.local.yaml", "SANDBOXFILE.LOCAL.YAML"):
        for what, operation, body in make_requests(name, file):
            if operation != LOOKUP:
                attempt(f"protected {name}: {what}", operation, 1, body.replace(z("file"), z("other")))
    kept = look_up("Sandboxfile.yaml")
    if kept:
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND, os.O_TRUNC):
            attempt(f"protected: open {flags:o}", OPEN, kept, struct.pack("<II", flags, 0))
        for valid in (1, 8, 16 | 32):
            body = struct.pack("<IIQQQQQQIIIIIIII", valid, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0o777, 0, 0, 0, 0)
            attempt(f"protected: setattr {valid}", SETATTR, kept, body)
        attempt("protected: link of it", LINK, 1, struct.pack("<Q", kept) + z("hard"))
        _, data = device.ask(OPEN, kept, struct.pack("<II", 0, 0))
        handle = struct.unpack_from("<Q", data)[0]
        body = struct.pack("<QQIIQII", handle, 0, 4, 0, 0, 0, 0) + b"evil"
        attempt("protected: write by a handle for reading", WRITE, kept, body)
        attempt("protected: fallocate", FALLOCATE, kept, struct.pack("<QQQII", handle, 0, 4096, 0, 0))
    # Requests that are none.
    for length in (0, 39, 41, 5000, 0xFFFFFFFF):
        attempt(f"malformed: length {length}", LOOKUP, 1, z("file"), length=length)
    attempt("malformed: operation 9999", 9999, 1, b"")
    attempt("malformed: ioctl", IOCTL, 1, bytes(32))
    attempt("malformed: setupmapping", SETUPMAPPING, 1, bytes(40))
    attempt("malformed: write that lies", WRITE, file, struct.pack("<QQIIQII", 0, 0, 0xFFFFFFFF, 0, 0, 0, 0))
    attempt("malformed: readdir", READDIR, 1, struct.pack("<QQIIQII", 0, 0, 0xFFFFFFFF, 0, 0, 0, 0))
    at = device.memory.at
    for count in (0, 0xFFFFFFFF):
        head = struct.pack("<IIQQIIIHH", 48, BATCH_FORGET, 8, 0, 0, 0, 1, 0, 0) + struct.pack("<II", count, 0)
        device.memory.bytes[PAGE : PAGE + 48] = head
        device.offer([(at[1], 48, 0, 0)])
    assert device.ask(GETATTR, 1, bytes(16))[0] == 0, "it does not answer any more"
    # Queues that are none: the server stops them, and starts again with a driver that begins anew.
    for what, chain in {
        "a loop": [(at[1], 16, 1, 1), (at[1], 16, 1, 0)],
        "outside": [((1 << 63), 64, 1, 1), (at[4], PAGE, 2, 0)],
        "4 GiB": [(at[1], 0xFFFFFFFF, 1, 1), (at[4], PAGE, 2, 0)],
        "writable first": [(at[4], PAGE, 3, 1), (at[1], 64, 0, 0)],
        "a next out of range": [(at[1], 64, 1, 9999)],
    }.items():
        try:
            device.offer(chain, wait_s=1.0)
            results[f"queue: {what}"] = "done"
        except Silent:
            results[f"queue: {what}"] = "silent"
        device.start()
        assert device.ask(GETATTR, 1, bytes(16))[0] == 0 and look_up("file"), "a new driver is not served"
    device.stop()
    return results


def main():
    outside, *mounts = sys.argv[1:]
    for mount in mounts:
        subprocess.run(["umount", "-l", mount], check=True)
    found = [os.path.dirname(path) for path in sorted(glob.glob("/sys/bus/pci/devices/*/device"))]
    devices = []
    for pci in found:
        with open(f"{pci}/device") as file:
            if file.read().strip() != "0x105a":
                continue
        with open("/sys/bus/pci/drivers/virtio-pci/unbind", "w") as file:
            file.write(os.path.basename(pci))
        devices.append(Device(pci))
    results = {device.tag: attack(device, outside) for device in devices}
    # The kernel's own driver again: the servers are well.
    for device in devices:
        with open("/sys/bus/pci/drivers/virtio-pci/bind", "w") as file:
            file.write(os.path.basename(device.pci))
        os.makedirs(f"/mnt/{device.tag}", exist_ok=True)
        subprocess.run(["mount", "-t", "virtiofs", device.tag, f"/mnt/{device.tag}"], check=True)
        with open(f"/mnt/{device.tag}/file") as file:
            results[device.tag]["afterwards"] = file.read()
    print(json.dumps(results))


main()
