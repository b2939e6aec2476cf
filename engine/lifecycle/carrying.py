"""`cache export` and `cache import`: the chain of snapshots of a project, from one machine to another."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import platform
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.build.accelerator import verdict_key
from engine.build.foundation import load_verdict
from engine.build.image import image_key
from engine.build.toolchain import toolchain_key
from engine.cache.bundle import FILES, TOOLS, BundleReader, CarriedEntry, CarriedFile, Maker, Manifest, write_bundle
from engine.cache.carried_snapshot import check_empty_disk, check_snapshot
from engine.cache.condition import read_record, record_of
from engine.cache.disk_space import free_bytes
from engine.cache.holds import Hold, hold_entries
from engine.cache.needs import disks_upon, name_of
from engine.cache.store import Entry, Store
from engine.errors import EngineError
from engine.lifecycle.doctor import find_tools
from vmm.private import private

if TYPE_CHECKING:
    from engine.build.blueprint import Blueprint

PAUSE_BYTES = 1 << 22  # after so many, the loop gets its turn: ^C ends it then
ROOM = 64 << 20  # bytes that are to stay free
NOT_ALIKE = "snapshots of machines run with the very QEMU and processor that they were made with"


@dataclass(frozen=True)
class Carried:
    """What was carried: each entry by name, and whether it was there already; `bytes` of the file."""

    entries: Mapping[str, str]
    bytes: int


async def export_chain(
    store: Store, blueprints: Sequence[Blueprint], target: Path, tell: Callable[[str], None]
) -> Carried:
    """Write everything that the sandboxes of the blueprints are started from into `target`, in one step.

    `tell` hears of each entry. Raises EngineError where something is not built, or cannot be written; then there is no
    such file, or the one that was there.
    """
    with hold_entries(store.layout) as hold:
        entries = _chain(store, blueprints, hold)
        tell(f"looking at {len(entries)} entries")
        carried = [await asyncio.to_thread(_describe, entry) for entry in entries]
        manifest = Manifest(_maker(store), tuple(carried))
        beside = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
        try:
            with open(beside, "xb", opener=private) as file:
                directories = {name_of(entry): entry.path for entry in entries}
                await _run(write_bundle(file, manifest, directories), _steps(manifest, tell))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        except OSError as error:
            raise EngineError(f"{target} cannot be written: {error.strerror or error}") from error
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
    return Carried({entry.name: "exported" for entry in carried}, target.stat().st_size)


async def import_chain(store: Store, source: Path, tell: Callable[[str], None]) -> Carried:
    """Put the entries of a bundle into the cache, each after all of it was checked.

    The tools of this machine must be there. Raises EngineError for a bundle that is damaged, was tampered with or was
    made by another QEMU or for another processor; then, and when it is cancelled, nothing of it is left.
    """
    made: list[CarriedEntry] = []
    try:
        with source.open("rb") as file, hold_entries(store.layout) as hold:
            reader = BundleReader(file)
            manifest = _localized(store, reader.manifest)
            hold.add(entry.name for entry in manifest.entries)
            _require_room(store, manifest)
            there = {entry.name: _is_there(store, entry) for entry in manifest.entries}
            for entry in manifest.entries:
                tell(f"{entry.name[:-20]}: {'is there' if there[entry.name] else f'{entry.bytes >> 20} MB'}")
                if there[entry.name]:
                    for carried in entry.files:
                        await _run(reader.skip(carried))
                elif await _take(store, reader, entry, manifest):
                    made.append(entry)
            reader.end()
        size = source.stat().st_size
    except BaseException as error:
        for entry in reversed(made):
            with contextlib.suppress(EngineError, OSError):
                store.remove(entry.kind, entry.key)
        if isinstance(error, OSError):
            raise EngineError(f"{source} cannot be imported: {error.strerror or error}") from error
        raise
    return Carried({name: "was there" if found else "imported" for name, found in there.items()}, size)


def _chain(store: Store, blueprints: Sequence[Blueprint], hold: Hold) -> list[Entry]:
    """The entries, each after those that it is built upon. Raises EngineError where one is missing."""
    found: dict[str, Entry] = {}

    def add(name: str) -> None:
        kind, _, key = name.partition("/")
        if kind in TOOLS or name in found:
            return
        hold.add([name])
        entry = store.entry(kind, key)
        if entry is None or not store.is_sound(entry):
            raise EngineError("not everything that `up` needs is built", f"{name} is missing", "`sandbox build` first")
        for parent in entry.parents:
            add(parent)
        found[name] = entry

    for blueprint in blueprints:
        graph = blueprint.chain.graph.nodes
        for node in (graph[one] for one in ("image", "initramfs", "disk", blueprint.chain.ready)):
            add(f"{node.kind}/{node.key}")
    return list(found.values())


def _describe(entry: Entry) -> CarriedEntry:
    record = read_record(entry.path) or record_of(entry.path)  # older ones have none
    wanted = FILES[entry.kind]
    names = sorted(name for name in record if wanted is None or name in wanted)
    files = [_describe_file(entry.path / name, name, str(record[name]["sha256"])) for name in names]
    return CarriedEntry(entry.kind, entry.key, entry.title, dict(entry.inputs), tuple(entry.parents), tuple(files))


def _describe_file(path: Path, name: str, sha256: str) -> CarriedFile:
    from engine.cache.digest import data_blocks

    status = path.lstat()
    with path.open("rb") as file:
        size = sum(len(block) for _, block in data_blocks(file.fileno(), status.st_size))
    return CarriedFile(name, status.st_size, size, sha256)


def _maker(store: Store) -> Maker:
    """What this machine's snapshots run with. Raises EngineError where it has no tools yet."""
    tools, verdict = find_tools(store), load_verdict(store)
    if tools is None or verdict is None:
        raise EngineError("this machine has no tools yet", hint="`sandbox doctor` makes them ready")
    cpu = "" if verdict.accelerator == "tcg" else _processor()
    key = toolchain_key()[0]
    return Maker(platform.machine(), key, tools.qemu.version, tools.kernel_release, verdict.accelerator, cpu)


def _processor() -> str:
    """A digest of what the host's processors can do: a machine that uses them cannot go on with others."""
    text = platform.processor()
    with contextlib.suppress(OSError):
        wanted = ("vendor_id", "cpu family", "model", "model name", "flags", "Features")
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        text = "\n".join(line for line in lines if line.split("\t")[0].strip() in wanted)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _localized(store: Store, manifest: Manifest) -> Manifest:
    """The manifest with the tools of this machine as parents. Raises EngineError where it is of no use here."""
    here, there = _maker(store), manifest.maker
    words = {
        "architecture": "for another architecture",
        "qemu": "with another QEMU",
        "kernel": "with another guest kernel",
        "toolchain": "with other tools",
        "accelerator": "for another accelerator",
        "cpu": "for another processor",
    }
    for name, what in words.items():
        if (theirs := getattr(there, name)) != (ours := getattr(here, name)):
            raise EngineError(
                f"the bundle was made {what}: {str(theirs)[:80]!r}, this machine has {ours!r}",
                hint=f"{NOT_ALIKE}; `sandbox build` makes them here",
            )
    _check_image(manifest)
    tools = {"toolchain": here.toolchain, "accelerator": verdict_key(here.toolchain)[0]}

    def local(parent: str) -> str:
        kind = parent.partition("/")[0]
        return f"{kind}/{tools[kind]}" if kind in tools else parent

    entries = [replace(entry, parents=tuple(map(local, entry.parents))) for entry in manifest.entries]
    return replace(manifest, entries=tuple(entries))


def _check_image(manifest: Manifest) -> None:
    """This machine's image has another name where it adds other certificates: then nothing here would be used."""
    key, inputs = image_key(manifest.maker.toolchain)
    for entry in manifest.entries:
        if entry.kind == "image" and entry.key != key:
            names = sorted(name for name in {*inputs, *entry.inputs} if inputs.get(name) != entry.inputs.get(name))
            raise EngineError(
                "the bundle was made for another guest image than this machine's",
                details=f"what differs: {', '.join(names)[:400]}",
                hint="its certificates and package clients are part of an image; `sandbox build` makes one here",
            )


def _require_room(store: Store, manifest: Manifest) -> None:
    free, needed = free_bytes(store.layout.cache), manifest.bytes + ROOM
    if free < needed:
        raise EngineError(
            f"the bundle needs {needed >> 20} MB in the cache, and {free >> 20} MB are free",
            hint="`sandbox cache prune` removes what nothing uses",
        )


def _is_there(store: Store, entry: CarriedEntry) -> bool:
    """Whether the cache has this very entry. Raises EngineError where it has another one of that name."""
    found = store.entry(entry.kind, entry.key)
    if found is None or not store.is_sound(found):
        if upon := disks_upon(store.layout).get(entry.name):
            raise EngineError(
                f"the disk of {upon[0].name} stands on the {entry.name[:-20]} that was here before",
                hint=f"`sandbox down {upon[0].name}` first",
            )
        return False
    record = read_record(found.path) or record_of(found.path)
    if all(record.get(file.name, {}).get("sha256") == file.sha256 for file in entry.files):
        return True
    raise EngineError(
        f"this cache has {entry.kind} {entry.key[:12]} already, built otherwise",
        details="what the bundle has was built upon its own",
        hint=f"`sandbox cache rm {entry.key[:12]}` removes it, with what is built upon it, if nothing needs it",
    )


async def _take(store: Store, reader: BundleReader, entry: CarriedEntry, manifest: Manifest) -> bool:
    """False where another process has made it meanwhile, which is as good as ours only if it is the same."""
    parents = [(kind, key) for kind, _, key in (name.partition("/") for name in entry.parents)]
    by_name = {one.name: one for one in manifest.entries if one.name in entry.parents}
    title, inputs = entry.title, entry.inputs
    building = store.build(
        entry.kind, entry.key, on_wait=lambda text: None, inputs=inputs, parents=parents, title=title
    )
    async with building as build:
        if build is None:
            raise EngineError(f"another process has built {entry.name} meanwhile", hint="import it once more")
        for carried in entry.files:
            await _run(reader.write(carried, build.directory / carried.name))
        if entry.kind == "disk":
            check_empty_disk(entry, build.directory)
        if "meta.json" in {file.name for file in entry.files}:
            check_snapshot(entry, build.directory, manifest.maker, by_name)
    return True


async def _run(work: Generator[int, None, None], step: Callable[[int], None] = lambda count: None) -> None:
    """Do the work, giving the loop its turn now and then. Given up, it ends before its files are closed."""
    done = 0
    with contextlib.closing(work):
        for count in work:
            step(count)
            done += count
            if done >= PAUSE_BYTES:
                done = 0
                await asyncio.sleep(0)


def _steps(manifest: Manifest, tell: Callable[[str], None]) -> Callable[[int], None]:
    """Tells of each entry when its first bytes are read."""
    ends, total = [], 0
    for entry in manifest.entries:
        ends.append((total, f"{entry.name[:-20]}: {entry.bytes >> 20} MB"))
        total += entry.bytes
    done = 0

    def step(count: int) -> None:
        nonlocal done
        while ends and done >= ends[0][0]:
            tell(ends.pop(0)[1])
        done += count

    return step
