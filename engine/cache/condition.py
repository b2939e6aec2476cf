"""Whether the files of an entry are still what its builder made.

When an entry is sealed, the size, the time and the digest of each file are recorded. Before an entry is used, sizes and
times are compared, which costs a `stat` for each file; where only a time differs, as after a copy of the cache, the
digest decides. `examine` reads everything.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.cache.digest import digest
from engine.files import read_json, write_json
from vmm.errors import VmmError
from vmm.qcow2 import QCOW2_MAGIC
from vmm.snapshot import load_snapshot

RECORD, ENTRY, MARKER = "files.json", "entry.json", "complete"
MOST_LOOKED_AT = 64  # files; the tools have thousands, and are tried when they are made
STATE_MAGIC = b"QEVM"  # how QEMU's stream of device states begins
EROFS_MAGIC, EROFS_AT = 0xE0F5E1E2, 1024

Record = Mapping[str, Mapping[str, Any]]  # relative name -> size, mtime_ns, sha256


def record_files(directory: Path) -> None:
    """Write down what the files are now. Reads them all, so call it in a thread. Raises OSError."""
    write_json(directory / RECORD, {"version": 1, "files": record_of(directory)})


def record_of(directory: Path) -> Record:
    """What the files are now, by their names. Reads them all, so call it in a thread. Raises OSError."""
    files = {}
    for path in _files(directory):
        status = path.stat()
        name = str(path.relative_to(directory))
        files[name] = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": digest(path)}
    return files


def read_record(directory: Path) -> Record | None:
    """What `record_files` wrote; None for an entry of an older version. Raises ValueError for a damaged record."""
    try:
        files = read_json(directory / RECORD)["files"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{RECORD} cannot be read") from error
    if not isinstance(files, Mapping):
        raise ValueError(f"{RECORD} is no record of files")
    return files


def look_at(directory: Path) -> str | None:
    """What is wrong with the entry, in words such as "ram is shorter than it was made"; None where nothing is found.

    Compares sizes and times; reads a file only where its time alone has changed.
    """
    return _damage(directory, at_most=MOST_LOOKED_AT)


def examine(directory: Path) -> str | None:
    """Like `look_at`, but reads every byte. Takes seconds for an image."""
    return _damage(directory, whole=True)


def _damage(directory: Path, *, whole: bool = False, at_most: int | None = None) -> str | None:
    """Of an entry with more than `at_most` files nothing is looked at."""
    try:
        record = read_record(directory)
    except ValueError as error:
        return str(error)
    if record is None:
        return _structure(directory)
    if at_most is not None and len(record) > at_most:
        return None
    return next(filter(None, (_compare(directory, name, made, whole=whole) for name, made in record.items())), None)


def has_digests(directory: Path) -> bool:
    """Whether `examine` can find a changed byte in it: entries of older versions have no digests."""
    return (directory / RECORD).is_file()


def _compare(directory: Path, name: str, made: Mapping[str, Any], *, whole: bool = False) -> str | None:
    path = directory / name
    try:
        status = path.lstat()
        if not path.is_file() or path.is_symlink():
            return f"{name} is no file any more"
        if status.st_size != made["size"]:
            return f"{name} is {'shorter' if status.st_size < made['size'] else 'longer'} than it was made"
        if status.st_mtime_ns == made["mtime_ns"] and not whole:
            return None
        if digest(path) != made["sha256"]:
            return f"{name} has other bytes than it was made with"
        if status.st_mtime_ns != made["mtime_ns"]:
            with contextlib.suppress(OSError):  # it was copied: the next look is a quick one again
                os.utime(path, ns=(status.st_atime_ns, made["mtime_ns"]))
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"
    except (KeyError, TypeError):
        return f"{RECORD} is no record of files"
    return None


def _structure(directory: Path) -> str | None:
    """What can be seen without a record: lengths, beginnings, and whether what a file refers to is there."""
    try:
        for name in ("root.erofs", "layer.erofs"):
            if (directory / name).exists() and not _is_erofs(directory / name):
                return f"{name} is no file system of this kind"
        return _snapshot_structure(directory) if (directory / "meta.json").exists() else None
    except OSError as error:
        return f"{Path(error.filename or '').name or 'a file'} cannot be read: {error.strerror}"
    except (VmmError, json.JSONDecodeError) as error:
        return str(error)


def _snapshot_structure(directory: Path) -> str | None:
    snapshot = load_snapshot(directory)
    if snapshot.ram.stat().st_size != snapshot.shape.memory:
        return "ram is not as long as the machine's memory"
    if _beginning(snapshot.state, 4) != STATE_MAGIC:
        return "state is no state of a machine"
    if _beginning(snapshot.disk, 4) != QCOW2_MAGIC:
        return "disk.qcow2 is no disk"
    for drive in snapshot.drives:
        if not drive.path.is_file():
            return f"{drive.path.name}, a disk that it was plugged in, is missing"
    return None


def _is_erofs(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(EROFS_AT)
        return file.read(4) == struct.pack("<I", EROFS_MAGIC)


def _beginning(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def _files(directory: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(directory):
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink() and path.name not in (RECORD, ENTRY, MARKER):
                yield path
