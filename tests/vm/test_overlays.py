"""The overlay that we write is one of QEMU's: its own tool finds the same in it as in one of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from foundation_world import shared_tools

from vmm.disk import make_overlay, write_overlay
from vmm.errors import VmmError
from vmm.process import run
from vmm.qcow2 import read_backing

MIB = 1 << 20


@pytest.mark.parametrize("size", [MIB, 513 * MIB, 20 << 30, (5 << 40) + 4096])
@pytest.mark.parametrize("relative", [False, True])
def test_it_is_as_qemus_own(tmp_path: Path, size: int, relative: bool) -> None:
    async def main() -> None:
        tools = await shared_tools()

        async def ask(*argv: str) -> Any:
            command = tools.qemu_img.command(*argv)
            return json.loads((await run(command, env=tools.qemu_img.env, timeout_s=60)).stdout)

        with (tmp_path / "base.raw").open("wb") as file:
            file.truncate(size)
        write_overlay(tmp_path / "first.qcow2", tmp_path / "base.raw", "raw")
        write_overlay(tmp_path / "ours.qcow2", tmp_path / "first.qcow2", "qcow2", relative=relative)
        await make_overlay(tools, tmp_path / "theirs.qcow2", tmp_path / "first.qcow2", "qcow2", relative=relative)
        told = [await ask("info", "--output=json", str(tmp_path / f"{name}.qcow2")) for name in ("ours", "theirs")]
        for each in told:
            for key in ("filename", "actual-size", "children"):
                each.pop(key, None)
        assert told[0] == told[1]
        assert read_backing(tmp_path / "ours.qcow2") == read_backing(tmp_path / "theirs.qcow2")
        checked = await ask("check", "--output=json", str(tmp_path / "ours.qcow2"))
        assert checked["check-errors"] == 0 and not {"leaks", "corruptions"} & set(checked)
        # And it can be written.
        commit = ["bench", "-w", "-c", "64", "-d", "1", "-s", "65536", "-S", "65536", "-f", "qcow2"]
        await run(tools.qemu_img.command(*commit, str(tmp_path / "ours.qcow2")), env=tools.qemu_img.env, timeout_s=60)
        checked = await ask("check", "--output=json", str(tmp_path / "ours.qcow2"))
        assert checked["check-errors"] == 0 and not {"leaks", "corruptions"} & set(checked)

    asyncio.run(main())


def test_what_is_no_disk_is_no_base(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(b"nothing")
    with pytest.raises(VmmError, match="is no qcow2 disk"):
        write_overlay(tmp_path / "disk.qcow2", tmp_path / "base", "qcow2")
    with pytest.raises(FileNotFoundError):
        write_overlay(tmp_path / "disk.qcow2", tmp_path / "missing", "qcow2")
    directory = tmp_path / "/".join(["d" * 200] * 5)
    directory.mkdir(parents=True)
    (directory / "base").write_bytes(bytes(MIB))
    with pytest.raises(VmmError, match="its path or its size is too large"):
        write_overlay(tmp_path / "disk.qcow2", directory / "base", "raw")
