"""What goes into the initramfs, and what changes its key."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from engine.build.image import ImageError, initramfs
from engine.build.image.initramfs import find_modules, initramfs_key, pack_initramfs
from vmm.tools import Tool, Tools


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A kernel with two modules, one of which needs two others, and one driver built in."""
    directory = tmp_path / "lib/modules/6.1"
    (directory / "kernel").mkdir(parents=True)
    for name in ("failover", "net_failover", "virtio_net", "virtio-rng"):
        (directory / f"kernel/{name}.ko.xz").write_bytes(lzma.compress(name.encode()))
    (directory / "modules.dep").write_text(
        "kernel/failover.ko.xz:\n"
        "kernel/net_failover.ko.xz: kernel/failover.ko.xz\n"
        "kernel/virtio_net.ko.xz: kernel/net_failover.ko.xz kernel/failover.ko.xz\n"
        "kernel/virtio-rng.ko.xz:\n"
    )
    (directory / "modules.builtin").write_text("kernel/fs/ext4.ko\n")
    return directory


@pytest.fixture
def tools(modules: Path, tmp_path: Path) -> Tools:
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"busybox itself")
    tool = Tool("x", ("x",), {}, "1", "private", Path("x"))
    return Tools(tool, tool, tool, tool, tool, (), tmp_path / "vmlinuz", "6.1", modules, busybox, "id")


def test_a_module_comes_after_what_it_needs(modules: Path) -> None:
    names = [file.name for file in find_modules(modules, ("virtio_net", "virtio_rng"))]
    assert names == ["failover.ko.xz", "net_failover.ko.xz", "virtio_net.ko.xz", "virtio-rng.ko.xz"]


def test_a_built_in_driver_needs_no_file(modules: Path) -> None:
    assert find_modules(modules, ("ext4",)) == []


def test_a_driver_that_the_kernel_lacks_is_named(modules: Path) -> None:
    with pytest.raises(ImageError, match="nvme"):
        find_modules(modules, ("nvme",))


def test_the_archive_holds_drivers_script_guestd_and_units(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initramfs, "MODULES", ("virtio_net",))
    data = pack_initramfs(tools)
    assert b"busybox itself" in data
    assert b"failover.ko\nnet_failover.ko\nvirtio_net.ko\n" in data  # the order, for init.sh
    for name in ("__main__", "wire", "command"):
        assert f"guest/usr/lib/sandbox/guestd/{name}.py".encode() in data
    assert b"__pycache__" not in data
    assert b"guest/etc/systemd/system/sysinit.target.wants/sandbox-guestd.service" in data
    assert pack_initramfs(tools) == data


def test_every_command_of_the_script_is_linked() -> None:
    script = initramfs.INIT.read_text()
    for applet in initramfs.APPLETS:
        assert applet == "sh" or f"{applet} " in script


def test_the_key_names_its_inputs_and_follows_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key, inputs = initramfs_key("toolchain-1")
    assert initramfs_key("toolchain-1") == (key, inputs)
    keys = {key, initramfs_key("toolchain-2")[0]}
    copy = tmp_path / "guest"
    (copy / "rootfs/etc").mkdir(parents=True)
    (copy / "guestd/deep").mkdir(parents=True)
    (copy / "guestd/__main__.py").write_text("1")
    (copy / "guestd/deep/a.py").write_text("1")
    (copy / "rootfs/etc/hosts").write_text("1")
    monkeypatch.setattr(initramfs, "GUEST", copy)
    keys.add(initramfs_key("toolchain-1")[0])
    (copy / "rootfs/etc/hosts").write_text("2")
    keys.add(initramfs_key("toolchain-1")[0])
    (copy / "rootfs/etc/hosts").rename(copy / "rootfs/etc/other")
    keys.add(initramfs_key("toolchain-1")[0])
    (copy / "guestd/deep/a.py").write_text("2")
    keys.add(initramfs_key("toolchain-1")[0])
    (copy / "guestd/deep/a.py").rename(copy / "guestd/deep/b.py")
    keys.add(initramfs_key("toolchain-1")[0])
    monkeypatch.setattr(initramfs, "MASKED", ())
    keys.add(initramfs_key("toolchain-1")[0])
    assert len(keys) == 8


def test_what_python_leaves_behind_is_not_packed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = tmp_path / "guest"
    (copy / "rootfs").mkdir(parents=True)
    (copy / "guestd").mkdir()
    (copy / "guestd/__main__.py").write_text("1")
    monkeypatch.setattr(initramfs, "GUEST", copy)
    key = initramfs_key("toolchain-1")
    (copy / "guestd/__pycache__").mkdir()
    (copy / "guestd/__pycache__/__main__.cpython-311.pyc").write_text("1")
    assert initramfs_key("toolchain-1") == key
