"""What the kernel says of one process, as a value: read from /proc, and asked of the process itself."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from asked_process import Asked, can_ask

KINDS = ("net", "mnt", "ipc", "uts", "pid", "cgroup", "user")
LISTENS = "0A"  # TCP_LISTEN, net/tcp_states.h
T = TypeVar("T")


@dataclass(frozen=True)
class Opened:
    """One descriptor: what it leads to, and whether it may be written."""

    target: str
    writable: bool


@dataclass(frozen=True)
class Seen:
    """One process. What only root, or nobody, may look at is None.

    `devices` and `routes` are those of its network, `listening` the addresses that it, or somebody in a network of its
    own, listens on. `starts` are the command lines of its children. `code` are the files whose code it runs. `tried` is
    what came of `attempts`, by the word of each: "" where it worked, else the name of the error; None where there was
    nothing to try.
    """

    command: str
    status: Mapping[str, str]
    limits: Mapping[str, tuple[str, str]]
    namespaces: Mapping[str, str] | None
    descriptors: tuple[Opened, ...] | None
    mounts: tuple[str, ...]
    code: frozenset[str] | None
    variables: frozenset[str] | None
    devices: frozenset[str] | None
    routes: int | None
    listening: frozenset[str] | None
    starts: tuple[str, ...]
    tried: Mapping[str, str | None] | None


def read_process(pid: int, ours: Mapping[str, str] | None = None, probe: Path | None = None) -> Seen:
    """Look at a process. `ours` are the namespaces of whoever looks; the process is asked to open `probe`, if given.

    Raises FileNotFoundError when it is gone.
    """
    place = Path(f"/proc/{pid}")
    status = dict(_colon(line) for line in (place / "status").read_text().splitlines())
    namespaces = _or_none(lambda: {kind: str((place / "ns" / kind).readlink()) for kind in KINDS})
    inodes = None if namespaces and ours and namespaces["net"] != ours["net"] else _sockets(place)
    return Seen(
        command=command_of(pid),
        status=status,
        limits=dict(_limits((place / "limits").read_text())),
        namespaces=namespaces,
        descriptors=_or_none(lambda: tuple(_descriptors(place))),
        mounts=tuple(line.split()[4] for line in (place / "mountinfo").read_text().splitlines()),
        code=_or_none(lambda: frozenset(_code(place))),
        variables=_or_none(lambda: frozenset(_variables(place))),
        devices=_or_none(lambda: frozenset(name for name, _ in map(_colon, _rows(place / "net/dev", 2)))),
        routes=_or_none(lambda: len(_rows(place / "net/route", 1))),
        listening=_or_none(lambda: frozenset(_listening(place, inodes))),
        starts=tuple(command_of(child) for child in children(pid)),
        tried=attempts(pid, probe) if probe is not None and can_ask() else None,
    )


def attempts(pid: int, probe: Path) -> dict[str, str | None]:
    """What comes of system calls of the process itself: it opens files, makes a socket, and signals its starter."""
    starter = int(dict(_colon(line) for line in Path(f"/proc/{pid}/status").read_text().splitlines())["PPid"])
    with Asked(pid) as asked:
        # The directories that it holds: its share it may open, and what it holds beside it is up to Landlock.
        held = [asked.call("openat", number, b".\0", os.O_DIRECTORY) for number in _held(pid)]
        results = {
            "open": asked.open(probe),
            "socket": asked.call("socket", socket.AF_INET, socket.SOCK_STREAM, 0),
            "signal": asked.call("kill", starter, 0),
        }
        if held:
            results["beside"] = min(held)
        for opened in (results["open"], results["socket"], *held):
            if opened >= 0:
                asked.call("close", opened)
    return {"beside": None} | {word: "" if of >= 0 else errno.errorcode[-of] for word, of in results.items()}


def _held(pid: int) -> list[int]:
    """Its descriptors that are places, and no more (O_PATH)."""
    found = []
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if int(re.findall(r"flags:\s+(\d+)", entry.read_text())[0], 8) & os.O_PATH:
                found.append(int(entry.name))
    return found


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def children(pid: int) -> Iterator[int]:
    """Its children that are alive."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if int(re.findall(r"^PPid:\s+(\d+)", (entry / "status").read_text(), re.M)[0]) == pid:
                yield int(entry.name)


def family(pid: int) -> Iterator[int]:
    """It and all processes that it, or one of them, has started."""
    yield pid
    for child in children(pid):
        yield from family(child)


def _or_none(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except PermissionError:
        return None


def _colon(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _rows(path: Path, heads: int) -> list[str]:
    return path.read_text().splitlines()[heads:]


def _limits(text: str) -> Iterator[tuple[str, tuple[str, str]]]:
    for line in text.splitlines()[1:]:
        name, soft, hard = re.split(r"\s{2,}", line.strip())[:3]
        yield name, (soft, hard)


def _descriptors(place: Path) -> Iterator[Opened]:
    for entry in (place / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # of a process that runs
            flags = int(re.findall(r"flags:\s+(\d+)", (place / "fdinfo" / entry.name).read_text())[0], 8)
            writable = bool(flags & (os.O_WRONLY | os.O_RDWR)) and not flags & os.O_PATH
            yield Opened(str(entry.readlink()), writable)


def _code(place: Path) -> Iterator[str]:
    for line in (place / "maps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if "x" in words[1] and len(words) > 5 and words[5].startswith("/"):
            yield words[5]


def _variables(place: Path) -> Iterator[str]:
    for word in (place / "environ").read_bytes().split(b"\0"):
        if word:
            yield word.partition(b"=")[0].decode(errors="replace")


def _sockets(place: Path) -> frozenset[str]:
    """The inodes of its sockets."""
    opened = _or_none(lambda: tuple(_descriptors(place))) or ()
    return frozenset(one.target[8:-1] for one in opened if one.target.startswith("socket:["))


def _listening(place: Path, inodes: frozenset[str] | None) -> Iterator[str]:
    """Addresses of TCP sockets that listen: all of its network, or those that are among `inodes`."""
    for name in ("tcp", "tcp6"):
        table = place / "net" / name
        for words in (row.split() for row in (_rows(table, 1) if table.exists() else ())):
            if words[3] == LISTENS and (inodes is None or words[9] in inodes):
                address, _, port = words[1].partition(":")
                packed = b"".join(struct.pack("=I", int(address[at : at + 8], 16)) for at in range(0, len(address), 8))
                kind = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
                yield f"{socket.inet_ntop(kind, packed)}:{int(port, 16)}"
