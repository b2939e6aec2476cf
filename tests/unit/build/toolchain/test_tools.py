"""The toolchain as a value: it survives being written, moved and read again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from vmm.errors import VmmError
from vmm.tools import Tool, Tools, from_json, to_json


def make_tools(directory: Path) -> Tools:
    def tool(name: str) -> Tool:
        path = directory / "bin" / name
        argv = (str(directory / "lib/ld.so"), "--library-path", str(directory / "lib"), str(path))
        return Tool(name, argv, {"DATA": str(directory / "share")}, "10.0.1", "private", path)

    return Tools(
        qemu=tool("qemu"),
        qemu_img=tool("qemu-img"),
        mkfs_erofs=tool("mkfs.erofs"),
        mkfs_ext4=Tool("mkfs.ext4", ("/usr/sbin/mkfs.ext4",), {}, "1.47", "system", Path("/usr/sbin/mkfs.ext4")),
        connect=tool("nc"),
        qemu_data=("-L", str(directory / "share/qemu")),
        kernel=directory / "kernel/vmlinuz",
        kernel_release="6.12.1-cloud",
        modules=directory / "kernel/lib/modules/6.12.1-cloud",
        busybox=directory / "kernel/busybox",
        id="abc",
        passt=tool("passt"),
    )


def test_a_set_reads_back_as_it_was_written(tmp_path: Path) -> None:
    tools = make_tools(tmp_path)
    assert from_json(to_json(tools, tmp_path), tmp_path) == tools


def test_a_set_without_passt_reads_back(tmp_path: Path) -> None:
    tools = dataclasses.replace(make_tools(tmp_path), passt=None)
    assert from_json(to_json(tools, tmp_path), tmp_path) == tools
    assert "passt" not in [tool.name for tool in tools.programs()]


def test_a_renamed_directory_has_the_same_tools_at_its_new_place() -> None:
    text = to_json(make_tools(Path("/a/temporary")), Path("/a/temporary"))
    assert "/a/temporary" not in text
    assert from_json(text, Path("/b/final")) == make_tools(Path("/b/final"))


def test_a_path_that_only_begins_alike_is_not_moved() -> None:
    tools = make_tools(Path("/usr"))  # the system's mkfs.ext4 is below this one
    moved = from_json(to_json(tools, Path("/us")), Path("/b"))
    assert moved == tools


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 99}', '{"format": 1, "qemu": 3}'])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(VmmError):
        from_json(text, Path("/x"))


def test_a_missing_tool_is_refused(tmp_path: Path) -> None:
    plain = json.loads(to_json(make_tools(tmp_path), tmp_path))
    del plain["qemu_img"]
    with pytest.raises(VmmError, match="cannot be read"):
        from_json(json.dumps(plain), tmp_path)


def test_a_command_is_the_prefix_and_its_arguments(tmp_path: Path) -> None:
    tool = make_tools(tmp_path).connect
    assert tool.command("-N", "-U") == [*tool.argv, "-N", "-U"]


def test_programs_are_all_of_them(tmp_path: Path) -> None:
    assert [tool.name for tool in make_tools(tmp_path).programs()] == [
        "qemu",
        "qemu-img",
        "mkfs.erofs",
        "mkfs.ext4",
        "nc",
        "passt",
    ]
