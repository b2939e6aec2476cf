"""What the toolchain is made of: tables of names, one for each architecture."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from engine.errors import EngineError

RECIPE_VERSION = 5  # raise it when a change of this package changes what is in the directory
MINIMUM_QEMU = 10  # older versions corrupt emulated guests that have more than one CPU
NEEDED_BYTES = 700 * 1024 * 1024  # the most that the directory takes while the toolchain is made


class ToolchainError(EngineError):
    """The toolchain could not be made or loaded."""


@dataclass(frozen=True)
class Program:
    """A program: its path in its package, and the argument that makes it print its version."""

    name: str
    path: str
    version_argument: str


@dataclass(frozen=True)
class Architecture:
    """The names that differ between architectures."""

    debian: str
    triplet: str
    loader: str
    qemu: str
    qemu_package: str
    kernel_package: str


ARCHITECTURES = {
    "x86_64": Architecture(
        debian="amd64",
        triplet="x86_64-linux-gnu",
        loader="ld-linux-x86-64.so.2",
        qemu="qemu-system-x86_64",
        qemu_package="qemu-system-x86",
        kernel_package="linux-image-cloud-amd64",
    ),
    # The names are those of Debian. This architecture has not been tried yet.
    "aarch64": Architecture(
        debian="arm64",
        triplet="aarch64-linux-gnu",
        loader="ld-linux-aarch64.so.1",
        qemu="qemu-system-aarch64",
        qemu_package="qemu-system-arm",
        kernel_package="linux-image-cloud-arm64",
    ),
}

PROGRAM_PACKAGES = ("qemu-utils", "erofs-utils", "e2fsprogs", "netcat-openbsd", "passt")
OPTIONAL = ("passt",)  # fields of programs without which a host's own programs are complete
KERNEL_PACKAGES = ("busybox-static", "kmod")

# Dependencies that only maintainer scripts or other programs of those packages need. They are not unpacked, which saves
# time. Afterwards the loader's list of libraries shows whether everything that is needed is there.
NOT_UNPACKED = (
    "adduser",
    "apt",
    "base-passwd",
    "coreutils",
    "cpio",
    "debconf",
    "debian-archive-keyring",
    "dpkg",
    "dracut-install",
    "initramfs-tools*",
    "klibc-utils",
    "libapt-pkg*",
    "libklibc",
    "libperl*",
    "libpython*",
    "libsqlite3-0",
    "libsystemd-shared",
    "linux-base",
    "login.defs",
    "media-types",
    "mmdebstrap",
    "mount",
    "netbase",
    "openssl-provider-legacy",
    "passwd",
    "perl*",
    "python*",
    "readline-common",
    "sqv",
    "systemd",
    "tar",
    "tzdata",
    "udev",
    "uidmap",
    "libpam-modules*",
)

# Files that QEMU reads at run time. They are put into one directory, so that one -L finds them all.
FIRMWARE = (
    "usr/share/seabios/*.bin",
    "usr/share/qemu/kvmvapic.bin",
    "usr/share/qemu/linuxboot*.bin",
    "usr/share/qemu/multiboot*.bin",
    "usr/share/qemu/pvh.bin",
    "usr/share/qemu/efi-virtio.rom",
)

# Libraries that programs open by name while they run, so no list of dependencies shows them.
EXTRA_LIBRARIES = ("libgcc_s.so.1",)


def architecture() -> Architecture:
    """The table entry of this host's architecture. Raises ToolchainError when there is none."""
    machine = {"arm64": "aarch64", "AMD64": "x86_64", "amd64": "x86_64"}.get(platform.machine(), platform.machine())
    if machine not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ToolchainError(f"there is no toolchain for {machine} machines", hint=f"known are: {known}")
    return ARCHITECTURES[machine]


def programs(arch: Architecture) -> dict[str, Program]:
    """The programs of the toolchain, by their field in `vmm.tools.Tools`."""
    return {
        "qemu": Program(arch.qemu, f"usr/bin/{arch.qemu}", "--version"),
        "qemu_img": Program("qemu-img", "usr/bin/qemu-img", "--version"),
        "mkfs_erofs": Program("mkfs.erofs", "usr/bin/mkfs.erofs", "--version"),
        "mkfs_ext4": Program("mkfs.ext4", "usr/sbin/mke2fs", "-V"),
        "connect": Program("nc", "usr/bin/nc.openbsd", "-h"),
        "passt": Program("passt", "usr/bin/passt", "--version"),
    }
