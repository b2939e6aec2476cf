"""Which memory a machine is begun with: shared with file servers, the private map of a file, or QEMU's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from engine.state.layout import Layout
from engine.supervisor import beginning
from vmm.snapshot_files import ram_in

LIVE, NONE = [{"source": "/src"}], list[Any]()


@pytest.mark.parametrize(
    ("how", "mounts", "has_ram", "shared", "from_file"),
    [
        ("new", NONE, True, False, True),
        ("new", LIVE, True, True, True),
        ("resume", NONE, True, False, True),  # as a fork's is, so that it can be paused and forked again
        ("resume", LIVE, True, True, True),
        ("resume", NONE, False, False, False),  # QEMU has written it into the state of its devices
        ("boot", NONE, False, False, False),
    ],
)
def test_memory(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    how: str,
    mounts: list[Any],
    has_ram: bool,
    shared: bool,
    from_file: bool,
) -> None:
    asked: dict[str, Any] = {}

    @contextlib.asynccontextmanager
    async def begin(tools: object, doors: object, **options: Any) -> AsyncIterator[None]:
        asked.update(options)
        yield

    monkeypatch.setattr(beginning, "begin", begin)
    monkeypatch.setattr(beginning, "load_tools", lambda path: None)
    monkeypatch.setattr(beginning, "load_snapshot", lambda path: None)
    paths = Layout.from_environment(os.environ).instance("shop")
    directory = paths.paused.directory if how == "resume" else tmp_path
    directory.mkdir(parents=True, exist_ok=True)
    if has_ram:
        ram_in(directory).touch()
    shape = {"accelerator": "tcg", "cpus": 2, "memory": 1 << 30, "qemu": "10"}
    launch = {"name": "shop", "toolchain": "/t", "root": "/r", "initrd": "/i", "snapshot": str(tmp_path), "doors": []}
    launch |= {"mounts": mounts, "shape": cast("Any", shape), "resume": how == "resume", "boot": how == "boot"}

    async def body() -> None:
        async with beginning.begin_machine(launch, paths):
            pass

    asyncio.run(body())
    assert asked["shared"] is shared and (asked["ram"] == ram_in(directory)) is from_file
    assert (asked["disk"] is None) is (how != "new"), "what goes on has its own disk"
