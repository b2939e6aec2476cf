"""The file that carries entries of the cache to another machine: a manifest, and then the bytes of each file.

It is a line that says what it is, and then gzip: the length of the manifest (8 bytes) and the manifest, JSON; for each
file in its order the blocks that are not all zero, each an offset (8 bytes), a length (4 bytes) and its bytes, and the
block that ends it. Sparse files stay sparse, and memory is a block. Nothing in the file is a path: what is read gets a
name that is checked here.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import struct
import zlib
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from engine.cache.digest import BLOCK, data_blocks
from engine.decoding import decode
from engine.errors import EngineError
from vmm.private import private

MAGIC = b"sandbox cache bundle 1\n"
LONGEST_MANIFEST = 8 << 20  # bytes
MOST_ENTRIES, MOST_FILES = 500, 2000
LARGEST = 16 << 40  # bytes of one file
LONGEST_TEXT = 4096  # of one input or title
END = (1 << 64) - 1
TOOLS = ("toolchain", "accelerator")  # each machine has its own
SNAPSHOT = frozenset({"disk.qcow2", "ram", "state", "meta.json"})
# What an entry of each kind consists of; None: packages by number, and what they are.
FILES: Mapping[str, frozenset[str] | None] = {
    "image": frozenset({"root.erofs", "clients.json", "packages.txt"}),
    "initramfs": frozenset({"initramfs"}),
    "disk": frozenset({"disk.raw"}),
    "agent-package": frozenset({"package.tgz", "package.json"}),
    "agent-packages": None,
    "agent-layer": frozenset({"layer.erofs", "programs.json"}),
    **dict.fromkeys(("booted", "agent", "packages", "setup", "images", "services"), SNAPSHOT),
}
_PACKAGE = re.compile(r"[0-9]{1,6}\.tgz|package\.json")
_KEY = re.compile(r"[0-9a-f]{8,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEAD, _BLOCK = struct.Struct(">Q"), struct.Struct(">QI")


@dataclass(frozen=True)
class CarriedFile:
    """One file: its `size` with holes, at most `bytes` of which are written, and its digest (engine.cache.digest)."""

    name: str
    size: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class CarriedEntry:
    """One entry. `parents` are "kind/key" of entries before it in the manifest, or of TOOLS."""

    kind: str
    key: str
    title: str
    inputs: Mapping[str, str]
    parents: tuple[str, ...]
    files: tuple[CarriedFile, ...]

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.key}"

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True)
class Maker:
    """What the snapshots run with, and on no other: versions as the programs say them, the accelerator, and the
    processor where it is the host's own ("" where it is emulated)."""

    architecture: str
    toolchain: str
    qemu: str
    kernel: str
    accelerator: str
    cpu: str


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds. `format` is that of the snapshots and of this file."""

    maker: Maker
    entries: tuple[CarriedEntry, ...]
    format: int = field(default=1)

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.entries)


def refused(why: str) -> EngineError:
    """What is said of a bundle that is not as we write them."""
    return EngineError(f"this is no bundle that can be imported: {why}", hint="nothing of it was kept; export it anew")


def write_bundle(out: IO[bytes], manifest: Manifest, directories: Mapping[str, Path]) -> Generator[int, None, None]:
    """Write the entries, which lie in `directories` by their names; yields now and then how many bytes were read.

    Raises EngineError for a file that is not as the manifest says, and OSError.
    """
    out.write(MAGIC)
    text = json.dumps(asdict(manifest), sort_keys=True).encode()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1, filename="", mtime=0) as stream:
        stream.write(_HEAD.pack(len(text)) + text)
        for entry in manifest.entries:
            for carried in entry.files:
                yield from _write_file(stream, directories[entry.name] / carried.name, carried)


def _write_file(stream: gzip.GzipFile, path: Path, carried: CarriedFile) -> Generator[int, None, None]:
    found = hashlib.sha256()
    with open(path, "rb", opener=_no_link) as file:
        for offset, block in data_blocks(file.fileno(), carried.size):
            stream.write(_BLOCK.pack(offset, len(block)) + block)
            found.update(offset.to_bytes(8, "big") + block)
            yield len(block)
    found.update(carried.size.to_bytes(8, "big"))
    if found.hexdigest() != carried.sha256 or path.stat().st_size != carried.size:
        raise EngineError(
            f"{path} is not as it was made",
            hint="`sandbox cache verify` says what is damaged; `sandbox build` mends it",
        )
    stream.write(_BLOCK.pack(END, 0))


def _no_link(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW)


class BundleReader:
    """Reads a bundle from its beginning; whatever is in it, it raises EngineError for what is not as we write them."""

    def __init__(self, source: IO[bytes]) -> None:
        if source.read(len(MAGIC)) != MAGIC:
            raise refused("it does not begin as one")
        self._stream = gzip.GzipFile(fileobj=source, mode="rb")
        (length,) = _HEAD.unpack(self._read(_HEAD.size))
        if length > LONGEST_MANIFEST:
            raise refused("its manifest is too long")
        self.manifest = _manifest(self._read(length))

    def write(self, carried: CarriedFile, target: Path) -> Generator[int, None, None]:
        """Write the next file, which must be this one, to `target`, which must not exist; yields as `write_bundle`."""
        found, last, written = hashlib.sha256(), -1, 0
        with open(target, "xb", opener=private) as file:
            os.ftruncate(file.fileno(), carried.size)
            while True:
                offset, length = _BLOCK.unpack(self._read(_BLOCK.size))
                if offset == END and length == 0:
                    break
                if offset % BLOCK or offset <= last or length != min(BLOCK, carried.size - offset) or length <= 0:
                    raise refused(f"{carried.name} has a block where none can be")
                last, written = offset, written + length
                if written > carried.bytes:
                    raise refused(f"{carried.name} is longer than its manifest says")
                block = self._read(length)
                found.update(offset.to_bytes(8, "big") + block)
                os.pwrite(file.fileno(), block, offset)
                yield length
        found.update(carried.size.to_bytes(8, "big"))
        if found.hexdigest() != carried.sha256:
            raise refused(f"{carried.name} has other bytes than its manifest says")

    def skip(self, carried: CarriedFile) -> Generator[int, None, None]:
        """Read the next file and keep nothing of it."""
        written = 0
        while (block := _BLOCK.unpack(self._read(_BLOCK.size))) != (END, 0):
            if not 0 < block[1] <= BLOCK or (written := written + block[1]) > carried.bytes:  # empty ones never end
                raise refused(f"{carried.name} is longer than its manifest says")
            self._read(block[1])
            yield block[1]

    def end(self) -> None:
        """There is nothing after the last file, and the compressed stream is whole."""
        try:
            if self._stream.read(1):
                raise refused("there is more in it than its manifest says")
        except (OSError, EOFError, zlib.error) as error:
            raise refused(f"it is damaged or cut short ({error})") from error

    def _read(self, length: int) -> bytes:
        try:
            data = self._stream.read(length)
        except (OSError, EOFError, zlib.error) as error:
            raise refused(f"it is damaged or cut short ({error})") from error
        if len(data) != length:
            raise refused("it is cut short")
        return data


def _manifest(text: bytes) -> Manifest:
    try:
        value = json.loads(text)
        if not isinstance(value, dict) or value.get("format") != 1:
            raise refused("its manifest has another format")
        manifest = decode(Manifest, value)
    except (ValueError, TypeError, RecursionError) as error:
        raise refused("its manifest cannot be read") from error
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    if not 0 < len(manifest.entries) <= MOST_ENTRIES:
        raise refused("it has no entries, or too many")
    seen: set[str] = set()
    for entry in manifest.entries:
        if entry.kind not in FILES or not _KEY.fullmatch(entry.key) or entry.name in seen:
            raise refused(f"{entry.name[:100]!r} is no entry, or is there twice")
        for parent in entry.parents:
            kind, _, key = parent.partition("/")
            if parent not in seen and not (kind in TOOLS and _KEY.fullmatch(key)):
                raise refused(f"{entry.name} is built upon {parent[:100]!r}, which is not in it")
        texts: list[Any] = [entry.title, *entry.inputs, *entry.inputs.values()]
        if len(texts) > MOST_FILES or any(len(one) > LONGEST_TEXT for one in texts):
            raise refused(f"{entry.name} is described at too great length")
        _check_files(entry)
        seen.add(entry.name)


def _check_files(entry: CarriedEntry) -> None:
    names, wanted = [file.name for file in entry.files], FILES[entry.kind]
    if wanted is None:
        fits = 0 < len(names) <= MOST_FILES and all(_PACKAGE.fullmatch(name) for name in names)
    else:
        fits = set(names) == wanted
    if not fits or len(set(names)) != len(names):
        raise refused(f"{entry.name} has other files than such an entry has")
    for file in entry.files:
        most = -(-file.size // BLOCK) * BLOCK
        if not 0 <= file.size <= LARGEST or not 0 <= file.bytes <= most or not _SHA256.fullmatch(file.sha256):
            raise refused(f"{file.name} of {entry.name} cannot be of that size")
