"""What a program of ours may keep of this host, as a value, and what the programs of a sandbox need.

The leash in front of the program (vmm/leash.py) puts it in force: nothing but these paths, no network, no capability,
and no other program or process.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from vmm.errors import VmmError
from vmm.qcow2 import QCOW2_MAGIC, read_backing
from vmm.shut_in import FILE, HELPERS, MEMORY, NETWORK, REPORT
from vmm.spec import Accelerator, MachineSpec
from vmm.tools import Tool, Tools

# What a program of the system is loaded from; nothing in them is the user's.
SYSTEM_LIBRARIES = ("/usr", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store", "/etc/ld.so.cache")
# What libraries read of the host in order to do their work well: its processors, memory and time zone.
HOST_FACTS = ("/sys/devices/system", "/sys/kernel/mm/transparent_hugepage", "/proc/meminfo", "/etc/localtime")
NOTHING = "/dev/null"
DEVICES: dict[Accelerator, tuple[str, ...]] = {"kvm": ("/dev/kvm",)}
BACKING_MOST = 64
QCOW2_SIZE_AT = 24
# Of QEMU, beside the guest's memory: code that it has translated (up to 1 GiB), and what its threads and devices need.
OWN_MEMORY = 4 << 30
# A qcow2 file is longer than its disk by its tables, which are a thousandth of it.
OVERHEAD_SHARE, OVERHEAD = 64, 64 << 20


@dataclass(frozen=True)
class Jail:
    """Paths by what may be done with them; all else is out of reach, as far as this host's kernel has the means.

    `read`: files, or all below a directory. `run`: the program, and what loads it. `write`: files that are there.
    `fill`: directories in which files may be made, too. `devices`: opened and controlled. `own_network` asks for a
    network namespace with nothing in it, and `helpers` leaves it the right to start programs and to use sockets.
    `memory` is how many bytes it may have of its own, and `file` how long one that it writes may get.
    """

    read: tuple[Path, ...] = ()
    run: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    fill: tuple[Path, ...] = ()
    devices: tuple[Path, ...] = ()
    own_network: bool = False
    helpers: bool = False
    report: int | None = None
    memory: int | None = None
    file: int | None = None

    def words(self) -> str:
        """As `vmm/shut_in.py` reads it. Raises VmmError for a path that has more than one line."""
        lines = [(word, str(path)) for word in ("read", "run", "write", "fill") for path in getattr(self, word)]
        lines += [("device", str(path)) for path in self.devices]
        lines += [(NETWORK, "")] if self.own_network else []
        lines += [(HELPERS, "")] if self.helpers else []
        lines += [(REPORT, str(self.report))] if self.report is not None else []
        limits = ((MEMORY, self.memory), (FILE, self.file))
        lines += [(word, str(limit)) for word, limit in limits if limit is not None]
        if broken := [text for _, text in lines if "\n" in text]:
            raise VmmError(f"a path with a line break cannot be used: {broken[0]!r}")
        return "\n".join(f"{word} {text}" for word, text in lines)


def tool_jail(tool: Tool, *, read: Iterable[Path] = (), write: Iterable[Path] = (), fill: Iterable[Path] = ()) -> Jail:
    """Of a program that does one thing to files."""
    program = Path(tool.argv[0])
    prefix = tool.path.resolve().parent.parent
    if tool.origin == "private":
        libraries = [prefix]
    else:
        libraries = [Path(path) for path in SYSTEM_LIBRARIES]
        libraries += [prefix / name for name in ("lib", "lib64", "libexec", "share")]
    facts = [Path(path) for path in HOST_FACTS]
    return Jail((*libraries, *facts, *read), (program, *_loader(program)), (Path(NOTHING), *write), tuple(fill))


def machine_jail(spec: MachineSpec, tools: Tools, *, own_network: bool) -> Jail:
    """Of QEMU: what its command line names. All that it is to open later has to be given to it (Qmp.lend)."""
    read = {spec.kernel, spec.initrd}
    write: set[Path] = set()
    for drive in spec.drives:
        (read if drive.read_only else write).add(drive.path)
        if drive.format == "qcow2":
            read.update(backing_files(drive.path))
    memory = spec.memory
    if memory.path is not None:
        # QEMU opens what it inherited by its name once more; that of memory without a file leads nowhere.
        (write if memory.shared else read).add(memory.path.resolve())
    jail = tool_jail(tools.qemu, read=sorted(read), write=sorted(write))
    helpers = spec.network is not None and spec.network.stream is None
    devices = tuple(Path(path) for path in DEVICES.get(spec.accelerator, ()))
    if helpers:
        helper = tool_jail(tools.connect)
        jail = replace(jail, read=(*jail.read, *helper.read), run=(*jail.run, *helper.run))
    return replace(
        jail,
        devices=devices,
        own_network=own_network,
        helpers=helpers,
        memory=memory.size + OWN_MEMORY,
        file=_longest_file(spec),
    )


def _longest_file(spec: MachineSpec) -> int:
    """How long a file may get that QEMU writes: a disk that is full, with what its format adds, or the memory."""
    sizes = [spec.memory.size]
    for drive in spec.drives:
        if not drive.read_only:
            sizes.append(disk_size(drive.path))
    return max(sizes) + max(sizes) // OVERHEAD_SHARE + OVERHEAD


def disk_size(disk: Path) -> int:
    """How many bytes a guest has on it. A file that cannot be read has none."""
    try:
        with disk.open("rb") as file:
            head = file.read(QCOW2_SIZE_AT + 8)
            if head[:4] == QCOW2_MAGIC:
                return int(struct.unpack_from(">Q", head, QCOW2_SIZE_AT)[0])
            return os.fstat(file.fileno()).st_size
    except (OSError, struct.error):
        return 0


def has_filter(qemu: Tool) -> bool:
    """Whether this QEMU was built with `-sandbox`. Of the system's one it is told by the library that it needs."""
    if sys.platform != "linux":
        return False
    if qemu.origin == "private":
        return True
    try:
        with qemu.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"libseccomp.so") >= 0
    except (OSError, ValueError):
        return False


def backing_files(disk: Path) -> tuple[Path, ...]:
    """The files that a qcow2 file needs beside itself, the nearest first. Empty for one that cannot be read.

    A file that is said to be raw is the last one, whatever it begins with: QEMU takes its bytes for those of a disk.
    """
    found: list[Path] = []
    while len(found) < BACKING_MOST:
        try:
            backing = read_backing(disk)
        except (OSError, VmmError):
            break
        if backing is None or not backing.name:
            break
        disk = disk.parent / backing.name
        found.append(disk)
        if backing.format == "raw":
            break
    return tuple(found)


def _loader(program: Path) -> tuple[Path, ...]:
    """The program that loads a dynamically linked one, by its PT_INTERP (elf(5)); nothing for one that has none."""
    try:
        with program.open("rb") as file:
            head = file.read(64)
            if head[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian: all that we run on
                return ()
            (table,), (width, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<HH", head, 54)
            for number in range(count):
                file.seek(table + number * width)
                part = struct.unpack("<IIQQQQQQ", file.read(56))
                if part[0] == 3:  # PT_INTERP
                    file.seek(part[2])
                    return (Path(os.fsdecode(file.read(part[5]).rstrip(b"\0"))),)
    except (OSError, struct.error):
        pass
    return ()
