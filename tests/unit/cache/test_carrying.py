"""Carrying entries to another cache: what arrives is what left, and whatever was tampered with is refused whole."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from disk_headers import FORMAT, qcow2

from engine.build.image import image_key
from engine.build.toolchain import toolchain_key
from engine.cache.bundle import MAGIC, Maker
from engine.cache.digest import BLOCK, digest
from engine.cache.store import Store
from engine.errors import EngineError
from engine.lifecycle import carrying
from engine.lifecycle.carrying import export_chain, import_chain
from engine.state.layout import Layout

TOOLS, PROBE = toolchain_key()[0], carrying.verdict_key(toolchain_key()[0])[0]
IMAGE, INPUTS = image_key(TOOLS)
INITRAMFS, DISK, BOOTED, LAYER, SETUP = ("1a" * 16, "2b" * 16, "3c" * 16, "4d" * 16, "5e" * 16)
BASE = [("toolchain", TOOLS), ("accelerator", PROBE), ("image", IMAGE), ("initramfs", INITRAMFS), ("disk", DISK)]
RAM = 64 * BLOCK
MAKER = Maker("x86_64", TOOLS, "10.0.13", "6.12", "tcg", "")


def put(store: Store, kind: str, key: str, files: dict[str, bytes], parents: Any = (), **more: Any) -> None:
    async def fill() -> None:
        async with store.build(kind, key, on_wait=pytest.fail, parents=parents, **more) as build:
            assert build is not None
            for name, content in files.items():
                (build.directory / name).write_bytes(content)
            if "ram" in files:
                os.truncate(build.directory / "ram", RAM)

    asyncio.run(fill())


def meta(drives: Any = (), **shape: Any) -> bytes:
    value = {"accelerator": "tcg", "cpus": 2, "memory": RAM, "qemu": TOOLS, "spare_ports": 9, **shape}
    return json.dumps({"format": 1, "shape": value, "drives": list(drives)}).encode()


def snapshot(below: str, form: str, drives: Any = (), **shape: Any) -> dict[str, bytes]:
    journal = b"what the machine reached"
    disk = qcow2(below, form)
    return {
        "disk.qcow2": disk, "ram": bytes(BLOCK) + b"pages", "state": b"QEVM", "meta.json": meta(drives, **shape),
        "journal.jsonl": journal,
    }  # fmt: skip


DRIVE = {"file": f"../../agent-layer/{LAYER}/layer.erofs", "serial": "agent", "slot": 8}


def tools(layout: Layout) -> Store:
    store = Store(layout)
    put(store, "toolchain", TOOLS, {"tools": b"of this machine"})
    put(store, "accelerator", PROBE, {"verdict": os.urandom(8)})
    return store


def chain(layout: Layout, **changes: Any) -> Store:
    """A cache with a whole chain; `changes` are files of the last snapshot."""
    store = tools(layout)
    image = {"root.erofs": b"root" * 1000, "clients.json": b"{}", "packages.txt": b""}
    put(store, "image", IMAGE, image, inputs=INPUTS)
    put(store, "initramfs", INITRAMFS, {"initramfs": b"cpio"})
    put(store, "disk", DISK, {"disk.raw": bytes(3 * BLOCK)})
    put(store, "booted", BOOTED, snapshot(f"../../disk/{DISK}/disk.raw", "raw"), BASE, title="booted machine")
    put(store, "agent-layer", LAYER, {"layer.erofs": b"layer", "programs.json": b"{}"}, BASE[:1])
    files = snapshot(f"../../booted/{BOOTED}/disk.qcow2", "qcow2", [DRIVE]) | changes
    put(store, "setup", SETUP, files, [*BASE, ("booted", BOOTED), ("agent-layer", LAYER)])
    return store


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


@pytest.fixture
def other(layout: Layout, tmp_path: Path) -> Layout:
    """The other machine, which has tools and nothing else."""
    other = layout._replace(cache=tmp_path / "other")
    other.prepare()
    tools(other)
    return other


@pytest.fixture(autouse=True)
def makers(monkeypatch: pytest.MonkeyPatch) -> list[Maker]:
    """What this machine says it is; a test may say something else."""
    said = [MAKER]
    monkeypatch.setattr(carrying, "_maker", lambda store: said[-1])
    return said


def blueprint() -> Any:
    nodes = {"image": ("image", IMAGE), "initramfs": ("initramfs", INITRAMFS), "disk": ("disk", DISK)}
    graph = {name: SimpleNamespace(kind=kind, key=key) for name, (kind, key) in nodes.items()}
    graph["setup[0]"] = SimpleNamespace(kind="setup", key=SETUP)
    return SimpleNamespace(chain=SimpleNamespace(graph=SimpleNamespace(nodes=graph), ready="setup[0]"))


def export(store: Store, target: Path) -> Path:
    said: list[str] = []
    done = asyncio.run(export_chain(store, [cast("Any", blueprint())], target, said.append))
    assert done.bytes == target.stat().st_size and any("MB" in line for line in said)
    return target


def bring(layout: Layout, source: Path) -> dict[str, str]:
    return dict(asyncio.run(import_chain(Store(layout), source, lambda text: None)).entries)


def names(layout: Layout) -> list[str]:
    """What the cache holds, but for the tools; also what was left half."""
    found = [f"{entry.kind}/{entry.key}" for entry in Store(layout).entries()]
    left = [path.name for path in layout.temporary.glob("*")]
    return [name for name in found if name.split("/")[0] not in ("toolchain", "accelerator")] + left


def test_what_arrives_is_what_left(layout: Layout, other: Layout, tmp_path: Path) -> None:
    store = chain(layout)
    bundle = export(store, tmp_path / "bundle")
    assert bundle.stat().st_mode & 0o777 == 0o600
    brought = bring(other, bundle)
    assert set(brought.values()) == {"imported"} and sorted(brought) == sorted(names(other)) == sorted(names(layout))
    there = Store(other)
    for entry in store.entries():
        if entry.kind in ("toolchain", "accelerator"):
            continue
        arrived = there.entry(entry.kind, entry.key)
        assert arrived is not None and there.is_sound(arrived), "its parents are those of this cache"
        assert arrived.build != entry.build and arrived.title == entry.title
        for path in arrived.path.iterdir():
            if path.name not in ("entry.json", "files.json", "complete"):
                assert digest(path) == digest(entry.path / path.name)
                assert path.stat().st_mode & 0o777 == 0o600
        assert not (arrived.path / "journal.jsonl").exists(), "what a build has reached is nobody else's business"
    ram = other.entry("setup", SETUP) / "ram"
    assert ram.stat().st_blocks * 512 < RAM, "it is sparse still"
    assert set(bring(other, bundle).values()) == {"was there"}, "once more changes nothing"


def test_an_export_needs_all_of_it_and_leaves_nothing_when_it_fails(layout: Layout, tmp_path: Path) -> None:
    store = chain(layout)
    with (layout.entry("setup", SETUP) / "state").open("r+b") as file:
        status = os.fstat(file.fileno())
        file.write(b"other")
        file.flush()
        os.utime(file.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))  # as a failing disk does
    with pytest.raises(EngineError, match=r"state is (not as it was made|longer)|not everything"):
        export(store, tmp_path / "bundle")
    store.remove("setup", SETUP)
    with pytest.raises(EngineError, match="not everything that `up` needs is built"):
        export(store, tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir() if "bundle" in path.name] == []


def test_an_interrupted_one_leaves_nothing(layout: Layout, other: Layout, tmp_path: Path) -> None:
    store = chain(layout)

    async def give_up(work: Any) -> None:
        task: asyncio.Task[Any] | None = None

        def tell(text: str) -> None:
            if "setup" in text and task is not None:
                task.cancel()

        task = asyncio.create_task(work(tell))
        with pytest.raises(asyncio.CancelledError):
            await task

    monkey = pytest.MonkeyPatch()
    monkey.setattr(carrying, "PAUSE_BYTES", 1)
    try:
        target = tmp_path / "bundle"
        asyncio.run(give_up(lambda tell: export_chain(store, [cast("Any", blueprint())], target, tell)))
        assert [path.name for path in tmp_path.iterdir() if "bundle" in path.name] == []
        export(store, target)
        asyncio.run(give_up(lambda tell: import_chain(Store(other), target, tell)))
    finally:
        monkey.undo()
    assert names(other) == []


# -- tampering: of the plain text within a bundle


def unpack(bundle: Path) -> tuple[dict[str, Any], bytes]:
    plain = gzip.decompress(bundle.read_bytes()[len(MAGIC) :])
    (length,) = struct.unpack_from(">Q", plain)
    return json.loads(plain[8 : 8 + length]), plain[8 + length :]


def pack(bundle: Path, manifest: Any, rest: bytes) -> None:
    text = json.dumps(manifest).encode()
    bundle.write_bytes(MAGIC + gzip.compress(struct.pack(">Q", len(text)) + text + rest, 1))


def entry_of(manifest: dict[str, Any], kind: str) -> dict[str, Any]:
    return cast("dict[str, Any]", next(entry for entry in manifest["entries"] if entry["kind"] == kind))


def change(kind: str, /, **values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: entry_of(manifest, kind).update(values)


def rename(kind: str, name: str) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: entry_of(manifest, kind)["files"][0].update(name=name)


def of_file(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: entry_of(manifest, "disk")["files"][0].update(values)


MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a name that leads out": rename("initramfs", "../../../outside"),
    "an absolute name": rename("initramfs", "/etc/passwd"),
    "a name of the store's own": rename("initramfs", "entry.json"),
    "a file that such an entry has not": rename("disk", "disk.qcow2"),
    "a kind of its own": change("disk", kind="locks"),
    "the tools": change("disk", kind="toolchain"),
    "a kind that leads out": change("disk", kind="../disk"),
    "a key that leads out": change("disk", key="../" + "a" * 29),
    "the same twice": lambda manifest: manifest["entries"].append(manifest["entries"][0]),
    "a parent that is not in it": change("booted", parents=["disk/" + "f" * 32]),
    "a parent after it": lambda manifest: manifest["entries"].reverse(),
    "a parent that leads out": change("booted", parents=["../x"]),
    "a size without end": of_file(size=1 << 60),
    "a negative size": of_file(size=-1),
    "more bytes than the size": of_file(bytes=1 << 40),
    "another digest": of_file(sha256="0" * 64),
    "no digest": of_file(sha256="zz"),
    "a size that is a text": of_file(size="1"),
    "another format": lambda manifest: manifest.update(format=2),
    "no entries": lambda manifest: manifest.update(entries=[]),
    "a title without end": change("disk", title="x" * 5000),
}


@pytest.mark.parametrize("how", MANIFESTS)
def test_a_manifest_that_was_changed_is_refused(layout: Layout, other: Layout, tmp_path: Path, how: str) -> None:
    bundle = export(chain(layout), tmp_path / "bundle")
    manifest, rest = unpack(bundle)
    MANIFESTS[how](manifest)
    pack(bundle, manifest, rest)
    with pytest.raises(EngineError, match="this is no bundle that can be imported"):
        bring(other, bundle)
    assert names(other) == [] and not (tmp_path / "outside").exists()


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "a byte": lambda rest: rest.replace(b"layer", b"LAYER"),
    "a block that is too long": lambda rest: struct.pack(">QI", 0, 1 << 31) + rest[12:],
    "a block out of order": lambda rest: struct.pack(">QI", BLOCK * 7, 4) + rest[12:],
    "a block beyond the end": lambda rest: struct.pack(">QI", 1 << 62, BLOCK) + rest[12:],
    "the end": lambda rest: rest[:-12],
    "more after the end": lambda rest: rest + b"more",
    "nothing": lambda rest: b"",
}


@pytest.mark.parametrize("how", BYTES)
def test_bytes_that_were_changed_are_refused(layout: Layout, other: Layout, tmp_path: Path, how: str) -> None:
    bundle = export(chain(layout), tmp_path / "bundle")
    manifest, rest = unpack(bundle)
    pack(bundle, manifest, BYTES[how](rest))
    with pytest.raises(EngineError, match="this is no bundle that can be imported"):
        bring(other, bundle)
    assert names(other) == []


def test_empty_blocks_of_what_is_there_already_are_refused(layout: Layout, other: Layout, tmp_path: Path) -> None:
    """A megabyte of them, compressed, could be read for hours."""
    bundle = export(chain(layout), tmp_path / "bundle")
    bring(other, bundle)
    manifest, rest = unpack(bundle)
    pack(bundle, manifest, struct.pack(">QI", 0, 0) * 1000 + rest)
    with pytest.raises(EngineError, match="is longer than its manifest says"):
        bring(other, bundle)


@pytest.mark.parametrize("cut", [0, 5, len(MAGIC) + 3, -1, -9])
def test_a_bundle_that_was_cut_is_refused(layout: Layout, other: Layout, tmp_path: Path, cut: int) -> None:
    bundle = export(chain(layout), tmp_path / "bundle")
    bundle.write_bytes(bundle.read_bytes()[:cut])
    with pytest.raises(EngineError, match="this is no bundle that can be imported"):
        bring(other, bundle)
    assert names(other) == []


DISKS = {
    "the host's": qcow2("/etc/shadow", "raw"),
    "outside of the cache": qcow2("../../../../etc/shadow", "raw"),
    "an entry that is not its parent": qcow2(f"../../image/{IMAGE}/root.erofs", "raw"),
    "the right one as raw": qcow2(f"../../booted/{BOOTED}/disk.qcow2", "raw"),
    "the right one by another name": qcow2(f"../../booted/{BOOTED}/../{BOOTED}/disk.qcow2", "qcow2"),
    "the right one in two formats": qcow2(f"../../booted/{BOOTED}/disk.qcow2", "qcow2", (FORMAT, b"raw")),
    "an extension that ours have not": qcow2(f"../../booted/{BOOTED}/disk.qcow2", "qcow2", (0x44415441, b"/a")),
    "a protocol": qcow2("nbd://127.0.0.1/x", "raw"),
    "nothing": b"QFI\xfb" + struct.pack(">IQI", 3, 0, 0) + bytes(600),
    "no disk": b"nonsense",
}


@pytest.mark.parametrize("how", DISKS)
def test_a_disk_lies_upon_what_came_with_it(layout: Layout, other: Layout, tmp_path: Path, how: str) -> None:
    bundle = export(chain(layout, **{"disk.qcow2": DISKS[how]}), tmp_path / "bundle")
    with pytest.raises(EngineError, match="the disk of setup/"):
        bring(other, bundle)
    assert names(other) == []


def test_an_empty_disk_lies_upon_nothing(layout: Layout, other: Layout, tmp_path: Path) -> None:
    """A file that is told to be raw, and is a qcow2 upon a file of the host, is one header away from being read."""
    store = chain(layout)
    shutil.rmtree(layout.entry("disk", DISK))
    put(store, "disk", DISK, {"disk.raw": qcow2("/etc/shadow", "raw") + bytes(BLOCK)})
    shutil.rmtree(layout.entry("booted", BOOTED))
    put(store, "booted", BOOTED, snapshot(f"../../disk/{DISK}/disk.raw", "raw"), [*BASE[:-1], ("disk", DISK)])
    shutil.rmtree(layout.entry("setup", SETUP))
    files = snapshot(f"../../booted/{BOOTED}/disk.qcow2", "qcow2", [DRIVE])
    put(store, "setup", SETUP, files, [*BASE, ("booted", BOOTED), ("agent-layer", LAYER)])
    bundle = export(store, tmp_path / "bundle")
    with pytest.raises(EngineError, match=r"the disk of disk/.* is none that was made empty"):
        bring(other, bundle)
    assert f"disk/{DISK}" not in names(other)


METAS = {
    "a drive of the host's": meta([{**DRIVE, "file": "/etc/shadow"}]),
    "a drive outside": meta([{**DRIVE, "file": "../../../../etc/shadow"}]),
    "a drive of another entry": meta([{**DRIVE, "file": f"../../image/{IMAGE}/root.erofs"}]),
    "a serial number that says more": meta([{**DRIVE, "serial": "agent,file=/etc/shadow"}]),
    "a slot of its own": meta([{**DRIVE, "slot": 99}]),
    "a further key": meta([{**DRIVE, "format": "qcow2"}]),
    "another QEMU": meta([DRIVE], qemu="f" * 32),
    "another accelerator": meta([DRIVE], accelerator="kvm"),
    "another memory": meta([DRIVE], memory=RAM * 2),
    "ports of its own": meta([DRIVE], spare_ports=40),
    "no JSON": b"{",
    "a list": b"[]",
    "too much": b" " * (1 << 17) + meta([DRIVE]),
}


@pytest.mark.parametrize("how", METAS)
def test_a_machine_is_what_came_with_it(layout: Layout, other: Layout, tmp_path: Path, how: str) -> None:
    bundle = tmp_path / "bundle"
    good = export(chain(layout), bundle)
    shutil.rmtree(layout.entry("setup", SETUP))
    files = snapshot(f"../../booted/{BOOTED}/disk.qcow2", "qcow2") | {"meta.json": METAS[how]}
    put(Store(layout), "setup", SETUP, files, [*BASE, ("booted", BOOTED), ("agent-layer", LAYER)])
    export(Store(layout), good)
    with pytest.raises(EngineError, match="this is no bundle that can be imported"):
        bring(other, bundle)
    assert names(other) == []


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("qemu", "10.0.14", "with another QEMU: '10.0.13', this machine has '10.0.14'"),
        ("kernel", "6.13", "with another guest kernel"),
        ("accelerator", "kvm", "for another accelerator"),
        ("cpu", "ab", "for another processor"),
        ("architecture", "aarch64", "for another architecture"),
        ("toolchain", "f" * 32, "with other tools"),
    ],
)
def test_another_machine_is_told(
    layout: Layout, other: Layout, tmp_path: Path, makers: list[Maker], field: str, value: str, words: str
) -> None:
    bundle = export(chain(layout), tmp_path / "bundle")
    makers.append(Maker(**{**vars(MAKER), field: value}))
    with pytest.raises(EngineError, match=words):
        bring(other, bundle)
    assert names(other) == []


def test_an_entry_that_was_built_otherwise_stays(layout: Layout, other: Layout, tmp_path: Path) -> None:
    bundle = export(chain(layout), tmp_path / "bundle")
    put(Store(other), "disk", DISK, {"disk.raw": bytes(5 * BLOCK)})
    with pytest.raises(EngineError, match="has disk 2b2b2b2b2b2b already, built otherwise"):
        bring(other, bundle)
    assert names(other) == [f"disk/{DISK}"]


def test_another_guest_image_is_told(layout: Layout, other: Layout, tmp_path: Path, monkeypatch: Any) -> None:
    bundle = export(chain(layout), tmp_path / "bundle")
    monkeypatch.setattr(carrying, "image_key", lambda key: ("e" * 32, {**INPUTS, "certificate own.crt": "x"}))
    with pytest.raises(EngineError, match="another guest image") as caught:
        bring(other, bundle)
    assert caught.value.details == "what differs: certificate own.crt"


def test_a_disk_without_room_is_said_first(
    layout: Layout, other: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = export(chain(layout), tmp_path / "bundle")
    monkeypatch.setattr(carrying, "ROOM", 1 << 60)
    with pytest.raises(EngineError, match="MB are free"):
        bring(other, bundle)
    assert names(other) == []
