"""What has happened to the files of an entry is found before it is used, and what is whole is not read again."""

from __future__ import annotations

import asyncio
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cache import condition
from engine.cache.condition import examine, has_digests, look_at
from engine.cache.digest import BLOCK, digest
from engine.cache.store import Store
from engine.plan.build_plan import make_plan
from engine.plan.graph import Graph, Node
from engine.state.layout import Layout

KEY, CHILD = "ab" * 16, "cd" * 16
MEGABYTE = 1 << 20


@pytest.fixture
def store() -> Store:
    return Store(Layout.from_environment(os.environ))


def make(store: Store, key: str = KEY, parents: tuple[tuple[str, str], ...] = (), *, old: bool = False) -> Path:
    """A snapshot as its builder leaves it; `old`: as a version without digests did."""

    async def fill() -> None:
        async with store.build("setup", key, on_wait=pytest.fail, parents=parents) as build:
            assert build is not None
            with (build.directory / "ram").open("wb") as ram:
                ram.truncate(4 * MEGABYTE)
                ram.seek(2 * MEGABYTE)
                ram.write(b"memory")
            (build.directory / "state").write_bytes(b"QEVM and so on")
            (build.directory / "disk.qcow2").write_bytes(b"QFI\xfb" + bytes(600))
            shape = {"accelerator": "tcg", "cpus": 1, "memory": 4 * MEGABYTE, "qemu": "x", "spare_ports": 1}
            (build.directory / "meta.json").write_text(json.dumps({"format": 1, "shape": shape, "drives": []}))

    asyncio.run(fill())
    path = store.layout.entry("setup", key)
    if old:
        (path / condition.RECORD).unlink()
    return path


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"OTHER")


def secretly(path: Path) -> None:
    """As a failing disk does: nobody wrote, as far as the file system knows."""
    status = path.stat()
    overwrite(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("name", ["ram", "state", "disk.qcow2", "meta.json"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (Path.unlink, "is missing"),
        (shorten, "is shorter than it was made"),
        (overwrite, "has other bytes than it was made with"),
    ],
)
def test_damage_is_found_before_use(store: Store, name: str, damage: Callable[[Path], None], words: str) -> None:
    path = make(store)
    assert store.find("setup", KEY) == path
    damage(path / name)
    assert store.find("setup", KEY) is None
    assert look_at(path) == examine(path) == f"{name} {words}"
    entry = store.entry("setup", KEY)
    assert entry is not None and store.damage(entry) == f"{name} {words}"
    assert make(store) == path and look_at(path) is None, "it is built again in the same place"


def test_a_byte_that_nobody_wrote_is_found_by_reading_all(store: Store) -> None:
    path = make(store)
    secretly(path / "state")
    assert look_at(path) is None
    assert examine(path) == "state has other bytes than it was made with"


def test_a_copy_with_other_times_is_whole_and_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(store)
    for name in ("ram", "state", "disk.qcow2", "meta.json"):
        os.utime(path / name, (1, 1))
    assert look_at(path) is None
    monkeypatch.setattr(condition, "digest", lambda path: pytest.fail(f"{path} was read again"))
    assert look_at(path) is None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("ram", b"short", "ram is not as long as the machine's memory"),
        ("state", b"", "state is no state of a machine"),
        ("disk.qcow2", b"raw", "disk.qcow2 is no disk"),
        ("meta.json", b"{", "no readable snapshot"),
        ("root.erofs", bytes(4096), "root.erofs is no file system"),
    ],
)
def test_what_an_older_version_built_is_known_by_its_structure(
    store: Store, name: str, content: bytes, words: str
) -> None:
    path = make(store, old=True)
    assert look_at(path) is None and not has_digests(path)
    (path / name).write_bytes(content)
    assert words in str(look_at(path))
    assert store.find("setup", KEY) is None


def test_a_file_system_of_an_older_version_is_known(store: Store) -> None:
    path = make(store, old=True)
    (path / "root.erofs").write_bytes(bytes(1024) + struct.pack("<I", condition.EROFS_MAGIC) + bytes(100))
    assert look_at(path) is None


def test_a_damaged_record_is_damage(store: Store) -> None:
    for content in ("", "[]", '{"files": 1}', '{"files": {"ram": {}}}'):
        path = make(store)
        (path / condition.RECORD).write_text(content)
        assert look_at(path) is not None, content
        assert store.find("setup", KEY) is None


def test_what_is_built_upon_a_damaged_entry_is_built_again_and_the_plan_says_why(store: Store) -> None:
    parent = make(store)
    make(store, CHILD, parents=(("setup", KEY),))
    nodes = [
        Node("first", "setup", "the first step", KEY, requires_entries=True),
        Node("second", "setup", "the second", CHILD, ("first",), requires_entries=True),
    ]
    assert make_plan(Graph(nodes), store).to_build == ()
    shorten(parent / "ram")
    reasons = {step.id: step.describe() for step in make_plan(Graph(nodes), store).to_build}
    assert reasons == {
        "first": "build: cache entry is damaged: ram is shorter than it was made",
        "second": "build: cache entry of first is damaged",
    }


def test_a_digest_is_of_the_bytes_and_not_of_the_holes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(3 * MEGABYTE)
        file.seek(MEGABYTE + 17)
        file.write(b"here")
    (tmp_path / "full").write_bytes((tmp_path / "sparse").read_bytes())
    assert digest(tmp_path / "sparse") == digest(tmp_path / "full")
    (tmp_path / "longer").write_bytes((tmp_path / "sparse").read_bytes() + b"\0")
    (tmp_path / "moved").write_bytes(bytes(MEGABYTE + 17 + BLOCK) + b"here" + bytes(2 * MEGABYTE - 21 - BLOCK))
    (tmp_path / "empty").touch()
    assert len({digest(path) for path in tmp_path.glob("*") if path.is_file()}) == 4
