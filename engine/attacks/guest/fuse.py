"""A virtiofs device without the kernel's driver: FUSE spoken to the host by hand, by root in the guest.

No kernel sends what this sends. Registers are reached through sysfs, addresses of the memory through
/proc/self/pagemap. Integers are little-endian, sizes are in bytes.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import stat
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

LOOKUP, FORGET, GETATTR, SETATTR, READLINK, SYMLINK = range(1, 7)
MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK = range(8, 14)
OPEN, READ, WRITE, RELEASE, SETXATTR, GETXATTR, INIT, OPENDIR, READDIR = 14, 15, 16, 18, 21, 22, 26, 27, 28
CREATE, IOCTL, BATCH_FORGET, FALLOCATE, RENAME2, COPY, SETUPMAPPING, TMPFILE = 35, 39, 42, 43, 45, 47, 48, 51
PAGE, QUEUE = 4096, 16
ANSWER_S = 20.0
RESET, ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK = 0, 1, 2, 4, 8
_DEVICE = "0x105a"
_TAGS = Path("/run/attacks-fuse")  # which device was at which mount point

Descriptor = tuple[int, int, int, int]  # address, length, flags, next


class Silent(OSError):
    """No answer came."""


class _Memory:
    """Pages that stay where they are, with their addresses."""

    def __init__(self, pages: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.bytes = mmap.mmap(-1, pages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x8000)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.bytes))
        for page in range(pages):
            self.bytes[page * PAGE] = 1
        if libc.mlock(ctypes.c_void_p(start), ctypes.c_size_t(pages * PAGE)):
            raise OSError("mlock")
        self.at: list[int] = []
        with Path("/proc/self/pagemap").open("rb", 0) as file:
            for page in range(pages):
                file.seek((start // PAGE + page) * 8)
                self.at.append((struct.unpack("<Q", file.read(8))[0] & ((1 << 55) - 1)) * PAGE)
        if not all(self.at):
            raise OSError("no addresses")


class Device:
    """`pci` is its directory in sysfs; no driver is bound to it."""

    def __init__(self, pci: Path) -> None:
        self.pci = pci
        (pci / "enable").write_text("1")
        with (pci / "config").open("r+b", buffering=0) as file:
            config = os.pread(file.fileno(), 256, 0)
            command = struct.unpack_from("<H", config, 4)[0]
            os.pwrite(file.fileno(), struct.pack("<H", command | 6), 4)  # memory, bus master
        self._places: dict[int, tuple[int, int, int]] = {}
        at = config[0x34]
        while at:
            if config[at] == 9:
                kind, bar, offset = config[at + 3], config[at + 4], struct.unpack_from("<I", config, at + 8)[0]
                factor = struct.unpack_from("<I", config, at + 16)[0] if kind == 2 else 0
                self._places.setdefault(kind, (bar, offset, factor))
            at = config[at + 1]
        self._bars: dict[int, mmap.mmap] = {}
        self.tag = bytes(self._register(4, at, 1).value for at in range(36)).rstrip(b"\0").decode()
        self.memory = _Memory(16)
        self._notify = 0
        self._available = self._unique = 0

    def _bar(self, kind: int) -> int:
        bar, offset, _ = self._places[kind]
        if bar not in self._bars:
            file = os.open(self.pci / f"resource{bar}", os.O_RDWR | os.O_SYNC)
            self._bars[bar] = mmap.mmap(file, os.fstat(file).st_size)
        return ctypes.addressof(ctypes.c_char.from_buffer(self._bars[bar])) + offset

    def _register(self, kind: int, at: int, size: int) -> ctypes.c_uint8 | ctypes.c_uint16 | ctypes.c_uint32:
        place = self._bar(kind) + at
        if size == 1:
            return ctypes.c_uint8.from_address(place)
        return ctypes.c_uint16.from_address(place) if size == 2 else ctypes.c_uint32.from_address(place)

    def common(self, at: int, size: int, value: int | None = None) -> int:
        register = self._register(1, at, size)
        if value is None:
            return register.value
        register.value = value
        return value

    def start(self) -> None:
        """Reset it, and set up both queues and FUSE. Raises OSError if it does not answer."""
        self.common(0x14, 1, RESET)
        while self.common(0x14, 1):
            pass
        self.common(0x14, 1, ACKNOWLEDGE | DRIVER)
        for half, value in ((1, 1), (0, 0)):  # VERSION_1 and nothing else
            self.common(8, 4, half)
            self.common(12, 4, value)
        self.common(0x14, 1, ACKNOWLEDGE | DRIVER | FEATURES_OK)
        if not self.common(0x14, 1) & FEATURES_OK:
            raise OSError("the device does not agree")
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
        self._notify = self.common(0x1E, 2) * self._places[2][2]
        self.common(0x14, 1, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
        self._available = self._unique = 0
        flags = struct.pack("<IIII", 7, 41, 0x20000, 0xFFFFFFFF) + struct.pack("<I", 0x0FFFFFFF) + bytes(44)
        if self.ask(INIT, 0, flags)[0]:
            raise OSError("no FUSE")

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.common(0x14, 1, RESET)

    def offer(self, chain: Sequence[Descriptor], wait_s: float = ANSWER_S) -> None:
        """Put a chain into the queue. Raises Silent if it is not used within `wait_s`."""
        memory = self.memory.bytes
        for at, descriptor in enumerate(chain):
            memory[16 * at : 16 * at + 16] = struct.pack("<QIHH", *descriptor)
        slot = 516 + 2 * (self._available % QUEUE)
        memory[slot : slot + 2] = bytes(2)
        self._available = (self._available + 1) & 0xFFFF
        memory[514:516] = struct.pack("<H", self._available)
        self._register(2, self._notify, 2).value = 1
        end = time.monotonic() + wait_s
        while struct.unpack_from("<H", memory, 1026)[0] != self._available:
            if time.monotonic() > end:
                raise Silent("silent")

    def ask(self, operation: int, node: int, body: bytes = b"", length: int | None = None) -> tuple[int, bytes]:
        """(errno, what follows the header). Raises Silent."""
        memory, at = self.memory.bytes, self.memory.at
        self._unique += 2
        size = 40 + len(body)
        head = struct.pack("<IIQQ", size if length is None else length, operation, self._unique, node)
        request = head + struct.pack("<IIIHH", 0, 0, 1, 0, 0) + body
        memory[PAGE : PAGE + size] = request
        memory[4 * PAGE : 5 * PAGE] = bytes(PAGE)
        parts = [(at[1 + n], min(size - n * PAGE, PAGE)) for n in range(-(-size // PAGE))]
        chain = [(address, part, 1, n + 1) for n, (address, part) in enumerate(parts)]
        self.offer([*chain, (at[4], PAGE, 2, 0)])
        filled, error, unique = struct.unpack_from("<IiQ", memory, 4 * PAGE)
        if filled and unique != self._unique:
            raise OSError("an answer to something else")
        return -error, bytes(memory[4 * PAGE + 16 : 4 * PAGE + max(16, min(filled, PAGE))])

    def look_up(self, name: str | bytes, parent: int = 1) -> int:
        """Its node; 0 if there is none."""
        error, data = self.ask(LOOKUP, parent, text(name))
        return struct.unpack_from("<Q", data)[0] if not error else 0

    def attempt(self, operation: int, node: int, body: bytes = b"", length: int | None = None) -> str:
        """How it went: "done", "silent" or the name of the error. After silence the device is started anew."""
        try:
            error, _ = self.ask(operation, node, body, length)
        except Silent:
            self.start()
            return "silent"
        return errno.errorcode.get(error, str(error)) if error else "done"


def text(name: str | bytes) -> bytes:
    return (name if isinstance(name, bytes) else name.encode()) + b"\0"


def naming(name: str | bytes, node: int, mine: str = "file") -> Iterator[tuple[str, int, bytes]]:
    """(what, operation, body) of each operation that takes a name; `mine` is a file of the mount, `node` its number."""
    own = text(mine)
    yield "lookup", LOOKUP, text(name)
    yield "symlink", SYMLINK, text(name) + text("/etc/passwd")
    yield "mkdir", MKDIR, struct.pack("<II", 0o755, 0) + text(name)
    for kind, device in ((stat.S_IFREG, 0), (stat.S_IFIFO, 0), (stat.S_IFCHR, 0x103), (stat.S_IFBLK, 0x800)):
        yield f"mknod {kind:o}", MKNOD, struct.pack("<IIII", kind | 0o666, device, 0, 0) + text(name)
    yield "create", CREATE, struct.pack("<IIII", os.O_RDWR, 0o644, 0, 0) + text(name)
    yield "link", LINK, struct.pack("<Q", node) + text(name)
    yield "rename to", RENAME, struct.pack("<Q", 1) + own + text(name)
    yield "rename from", RENAME, struct.pack("<Q", 1) + text(name) + text("got")
    for flags in (0, 1, 2, 4):
        yield f"rename2 {flags} to", RENAME2, struct.pack("<QII", 1, flags, 0) + own + text(name)
        yield f"rename2 {flags} from", RENAME2, struct.pack("<QII", 1, flags, 0) + text(name) + text("got")
    yield "unlink", UNLINK, text(name)
    yield "rmdir", RMDIR, text(name)
    yield "setxattr", SETXATTR, struct.pack("<II", 1, 0) + text(name) + b"x"
    yield "tmpfile", TMPFILE, struct.pack("<IIII", os.O_RDWR, 0o644, 0, 0) + text(name)


def take(mount: str) -> Device:
    """Take the device of a mount point from the kernel, and start it. Raises OSError."""
    known = _TAGS / mount.strip("/").replace("/", "-")
    if not known.exists():
        tag = subprocess.run(["findmnt", "-no", "SOURCE", mount], capture_output=True, text=True).stdout.split()[-1]
        known.parent.mkdir(exist_ok=True)
        known.write_text(tag)
        subprocess.run(["umount", "-l", mount], check=True)
    tag = known.read_text()
    for pci in sorted(Path("/sys/bus/pci/devices").iterdir()):
        if (pci / "device").read_text().strip() != _DEVICE:
            continue
        names = [path.name for path in pci.glob("virtio*/")]
        if names and tag != _tag_of(pci / names[0]):
            continue
        if names:
            (pci / "driver/unbind").write_text(pci.name)
        device = Device(pci)
        if device.tag == tag:
            device.start()
            return device
    raise OSError(f"no device of {mount}")


def _tag_of(virtio: Path) -> str:
    """From the kernel's own view of it; what it does not tell is found out without a driver."""
    for path in Path("/sys/fs/virtiofs").glob("*/tag"):
        if (path.parent / "device").resolve() == virtio.resolve():
            return path.read_text().strip()
    return ""


def give_back(mount: str) -> str:
    """The kernel's own driver again; what is in the mount's `file` then."""
    tag = (_TAGS / mount.strip("/").replace("/", "-")).read_text()
    for pci in sorted(Path("/sys/bus/pci/devices").iterdir()):
        if (pci / "device").read_text().strip() == _DEVICE and not (pci / "driver").exists():
            Path("/sys/bus/pci/drivers/virtio-pci/bind").write_text(pci.name)
    subprocess.run(["mount", "-t", "virtiofs", tag, mount], check=True)
    return (Path(mount) / "file").read_text()
