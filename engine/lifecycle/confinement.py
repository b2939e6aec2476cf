"""What each process of a running sandbox may still do on this host: one table, for the documentation and for a test.

`python -m engine.cli.security_page` writes it into docs/security.md; tests/e2e/test_confinement.py looks at the
processes of a running sandbox and compares. `sandbox doctor` says which parts this host does not offer.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from typing import NamedTuple

from engine.secrets.store import SESSION
from vmm.errors import VmmError
from vmm.jail import Jail
from vmm.process import spawn

NO_NAMESPACE: frozenset[str] = frozenset()
PIPES = ("/dev/null", "pipe:", "socket:")
EVENTS = ("anon_inode:[eventfd]", "anon_inode:[eventpoll]", "anon_inode:[signalfd]", "anon_inode:[timerfd]")
WATCHES = "anon_inode:inotify"  # of a file server that tells its guest what the host has changed
MEMORY = "/memfd:sandbox-ram"
# What these words of a row stand for is known when a sandbox runs. CODE is what programs of ours are loaded from.
DISKS, DISK, SHARE, CODE = "its disks", "its disk", "its share", "its code"
# Of what a process is started with (`vmm.environment`): no proxy, which may hold credentials, and no token.
VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "LC_", "USER", "LOGNAME", "SANDBOX_")
LOOPBACK = ("127.0.0.1:", "::1:")
SUPERVISORS = (*VARIABLES, "XDG_RUNTIME_DIR", "VIRTUAL_ENV", "SSL_CERT_")
DESCRIPTORS, MEMORY_OF_ITS_OWN, FILE_SIZE = "Max open files", "Max data size", "Max file size"  # as /proc/PID/limits
PARTS_S = 20.0
# As `vmm/shut_in.py` names what it has put in force, and what stands for it where a kernel does not have it.
PARTS = {
    "an empty network": "no network of its own (no passt, or no namespaces): sockets are up to the filter",
    "Landlock": "no Landlock (Linux 5.13): which files a taken-over QEMU opens is up to the user's rights alone",
    "system calls": "no filter of system calls for this processor",
    "no program but its own": "the kernel cannot ask about execve (Linux 5.5): it is up to Landlock and QEMU's filter",
}


@dataclass(frozen=True)
class Held:
    """One kind of process. `marks` are words of its command line; the texts are for the reader.

    `namespaces` are those of its own, beside the user namespace that an ordinary user needs for them. `descriptors` are
    beginnings of what it may have open, and `writes` of the files among them that it may write; None: as it needs.
    `root` says that its root directory is not the host's. `starts` are marks of its children. `listens` are beginnings
    of the addresses that it may listen on. `variables` are beginnings of the names in its environment. `limits` are
    those that the kernel holds it to, at most so much (None: as much as its sandbox needs). `landlocked` says that no
    file opens for it but its own, `calls` how many filters of system calls it has at least.
    """

    name: str
    marks: tuple[str, ...]
    files: str
    network: str
    programs: str
    namespaces: frozenset[str] = NO_NAMESPACE
    descriptors: tuple[str, ...] | None = None
    writes: tuple[str, ...] | None = None
    root: bool = False
    starts: tuple[str, ...] = ()
    listens: tuple[str, ...] = ()
    variables: tuple[str, ...] = VARIABLES
    limits: tuple[tuple[str, int | None], ...] = ()
    landlocked: bool = False
    calls: int = 1
    confined: bool = True
    tests: str = ""


PROCESSES = (
    Held(
        "QEMU",
        ("qemu-system", "-name"),
        "writes its own disk; reads the disks below it, kernel, initramfs and its own libraries; opens nothing else, "
        "what is plugged later it is handed open (Landlock)",
        "no sockets but those that it was handed; an empty network",
        "none, no process; signals itself only",
        frozenset({"net", "ipc"}),
        (*PIPES, *EVENTS, "anon_inode:[io_uring]", MEMORY, DISKS),
        writes=(DISK,),
        variables=(*VARIABLES, "QEMU_MODULE_DIR"),
        limits=((DESCRIPTORS, 4096), (MEMORY_OF_ITS_OWN, None), (FILE_SIZE, None)),
        landlocked=True,
        calls=2,
        tests="`tests/contract/vmm/test_hostile_qemu.py`",
    ),
    Held(
        "file server, one for each mount, and its stand-in",
        ("vmm.fileserver",),
        "its directory is its root; nothing else (mount namespace, Landlock)",
        "no sockets but the one to QEMU and one between the two; an empty network",
        "none but its stand-in, no process after that; no signals",
        frozenset({"mnt", "net", "ipc", "uts"}),
        (*PIPES, *EVENTS, WATCHES, MEMORY, SHARE),
        writes=(SHARE,),
        root=True,
        starts=("vmm.fileserver",),
        limits=((MEMORY_OF_ITS_OWN, 2 << 30),),
        landlocked=True,
        tests="`tests/contract/fileserver/test_fileserver_confinement.py`",
    ),
    Held(
        "passt",
        ("passt", "--foreground"),
        "an empty root",
        "an empty network with nothing but the gateway's listeners in it",
        "none",
        frozenset({"mnt", "net", "ipc", "uts"}),
        (*PIPES, *EVENTS),
        writes=(),
        root=True,
        listens=("10.0.2.",),
        limits=((MEMORY_OF_ITS_OWN, 1 << 30),),
        tests="`tests/vm/test_packets.py`",
    ),
    Held(
        "waker, of a paused sandbox with published ports",
        ("engine.supervisor.waker",),
        "the user's; it gets no input but that of its own supervisors, and reads no byte of a connection",
        "listens on the published ports, and accepts nothing that is served",
        "`sandbox resume` of the one sandbox",
        starts=("resume",),
        listens=LOOPBACK,
        variables=(*SUPERVISORS, *SESSION),  # `resume` asks the keyring of the user's session
        calls=0,
        confined=False,
        tests="`tests/unit/supervisor/test_waker.py`",
    ),
    Held(
        "supervisor, with the gateway",
        ("engine.supervisor",),
        "the user's",
        "the user's: it connects to allowed hosts",
        "those of this table; commands of the user's own configuration that print a secret",
        starts=("qemu-system", "vmm.fileserver", "passt", "guard.py"),
        listens=LOOPBACK,
        variables=SUPERVISORS,
        calls=0,
        confined=False,
        tests="`tests/unit/secrets/test_vault.py`",
    ),
    Held(
        "guard, which removes the sockets after a kill",
        ("guard.py",),
        "the user's; it gets no input but the end of a pipe",
        "the user's",
        "none",
        descriptors=PIPES,
        writes=(),
        calls=0,
        confined=False,
    ),
)
HEAD = ("process", "files", "network", "programs and processes", "capabilities", "system calls", "tried by")


def table() -> str:
    """The table as Markdown."""
    rows = [HEAD, ("---",) * len(HEAD)]
    rows += [(held.name, *cells(held).values(), held.tests) for held in PROCESSES]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def cells(held: Held) -> dict[str, str]:
    """What the table says of one kind, by the heads of its columns."""
    rights = "none, and it can get none" if held.confined else "the user's"
    calls = "filtered" if held.confined else "all"
    return dict(zip(HEAD[1:-1], (held.files, held.network, held.programs, rights, calls), strict=True))


class MachineJail(NamedTuple):
    """The parts of QEMU's jail that are in force on this host, and a sentence for each that is missing."""

    holds: tuple[str, ...]
    missing: tuple[str, ...]


async def try_machine(*, own_network: bool) -> MachineJail:
    """Shut a process in as QEMU would be, and hear what held. Takes about 100 ms, waits up to PARTS_S seconds."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as report, os.fdopen(writer, "wb") as theirs:
        jail = Jail(own_network=own_network, report=theirs.fileno())
        try:
            async with spawn([sys.executable, "-I", "-S", "-c", ""], jail=jail, pass_fds=[theirs.fileno()]) as process:
                theirs.close()
                await asyncio.wait_for(process.wait(), PARTS_S)
                told = report.read().decode()
        except (TimeoutError, VmmError) as error:
            return MachineJail((), (f"nothing confines QEMU: {error}",))
    holds = tuple(filter(None, told.split(", ")))
    missing = [why for part, why in PARTS.items() if not any(held.startswith(part) for held in holds)]
    return MachineJail(holds, tuple(missing))
