"""The initramfs: busybox, a few drivers, one script, and the files that every boot puts into the guest."""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.build.image.cpio import Archive
from engine.build.image.recipe import ImageError
from engine.cache.disk_space import making
from engine.state.keys import KEY_LENGTH, bytes_key, inputs_key
from vmm import guest
from vmm.tools import Tools

INITRAMFS = "initramfs"
RECIPE_VERSION = 1
INIT = Path(__file__).with_name("init.sh")
GUEST = Path(guest.__file__).parent
GUESTD_TARGET = "usr/lib/sandbox/guestd"  # a directory; `vmm.guest.guestd` says how it is started

# Drivers that are modules in the guest's kernel. They are needed before the root is mounted, or in every guest.
MODULES = ("virtio_blk", "virtio_net", "virtio_rng", "virtio_balloon", "erofs", "overlay")

# The commands of init.sh, as links to busybox.
APPLETS = (
    "sh",
    "cat",
    "cp",
    "mkdir",
    "mknod",
    "mount",
    "insmod",
    "ip",
    "ln",
    "poweroff",
    "switch_root",
    "usleep",
    "chmod",
    "echo",
)

# Units that the guest starts, besides those that its packages enable.
ENABLED = {
    "sandbox-guestd.service": "sysinit.target",
    "sandbox-dns.service": "sysinit.target",
}

# Units that the guest must not start: they take boot time under emulation, or change the guest without being asked.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "apt-daily.service",
    "apt-daily-upgrade.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-tmpfiles-clean.timer",
    "getty@.service",
    "getty-static.service",
    "serial-getty@.service",
    "console-getty.service",
    "container-getty@.service",
    "systemd-firstboot.service",
    "systemd-update-utmp.service",
    "systemd-random-seed.service",
    "systemd-pstore.service",
    "systemd-journal-flush.service",
    "systemd-machine-id-commit.service",
    "systemd-hwdb-update.service",
    "systemd-networkd-wait-online.service",
    "systemd-networkd.service",
    "systemd-timesyncd.service",
    "systemd-hibernate-clear.service",
    "systemd-tpm2-setup.service",
    "systemd-tpm2-setup-early.service",
    "systemd-pcrphase.service",
    "systemd-sysusers.service",
    "systemd-update-done.service",
    "systemd-journal-catalog-update.service",
    "systemd-logind.service",
    "systemd-user-sessions.service",
    "systemd-binfmt.service",
    "systemd-modules-load.service",
    "systemd-tmpfiles-setup-dev-early.service",
    "kmod-static-nodes.service",
    "modprobe@configfs.service",
    "modprobe@drm.service",
    "modprobe@fuse.service",
    "sys-kernel-config.mount",
    "sys-fs-fuse-connections.mount",
    "ldconfig.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "dev-hugepages.mount",
    "rc-local.service",
)


def initramfs_key(tool_key: str) -> tuple[str, dict[str, str]]:
    """The content key of the initramfs, and the named inputs that it is the hash of: scripts, guest files, drivers."""
    inputs = {
        "recipe": str(RECIPE_VERSION),
        "toolchain": tool_key,
        "modules": " ".join(MODULES),
        "init": bytes_key(INIT.read_bytes()),
        "guestd": _hash(_files(GUEST / "guestd")),
        "units": bytes_key(json.dumps([ENABLED, MASKED]).encode()),
        "files": _hash(_files(GUEST / "rootfs")),
    }
    return inputs_key(inputs), inputs


async def build_initramfs(directory: Path, tools: Tools) -> Path:
    """Write the initramfs for these tools into `directory`, and return its path.

    Raises ImageError when the kernel lacks a driver or the disk is full.
    """
    path = directory / INITRAMFS
    with making("the initramfs", directory, 0, ImageError):
        path.write_bytes(pack_initramfs(tools))
    return path


def pack_initramfs(tools: Tools) -> bytes:
    """The bytes of the archive; the same for the same tools and files.

    It is not compressed, since unpacking would take more time than reading saves.
    """
    archive = Archive()
    for name in ("proc", "sys", "dev"):
        archive.add_directory(name)
    archive.add_device("dev/console", 5, 1)
    archive.add_file("init", INIT.read_bytes(), 0o755)
    archive.add_file("bin/busybox", tools.busybox.read_bytes(), 0o755)
    for name in APPLETS:
        archive.add_link(f"bin/{name}", "busybox")
    drivers = find_modules(tools.modules, MODULES)
    for file in drivers:
        archive.add_file(f"modules/{_plain_name(file)}", _decompress(file))
    archive.add_file("modules/order", "".join(f"{_plain_name(file)}\n" for file in drivers).encode())
    _add_guest(archive)
    return archive.finish()


def _add_guest(archive: Archive) -> None:
    for path, data in _files(GUEST / "rootfs"):
        # The modes are decided here, since an installed Python package does not keep those of its sources.
        archive.add_file(f"guest/{path}", data, 0o755 if data.startswith(b"#!") else 0o644)
    for path, data in _files(GUEST / "guestd"):
        archive.add_file(f"guest/{GUESTD_TARGET}/{path}", data)
    for unit, target in ENABLED.items():
        archive.add_link(f"guest/etc/systemd/system/{target}.wants/{unit}", f"/etc/systemd/system/{unit}")
    for unit in MASKED:
        archive.add_link(f"guest/etc/systemd/system/{unit}", "/dev/null")


def _files(root: Path) -> Iterator[tuple[str, bytes]]:
    """(path, content) of every file beneath `root`, sorted, without Python's caches."""
    for file in sorted(root.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file.relative_to(root).as_posix(), file.read_bytes()


def _hash(files: Iterable[tuple[str, bytes]]) -> str:
    total = hashlib.sha256()
    for path, data in files:
        total.update(f"{path}\0{len(data)}\0".encode() + data)
    return total.hexdigest()[:KEY_LENGTH]


def find_modules(directory: Path, names: tuple[str, ...]) -> list[Path]:
    """The files of the drivers and of their dependencies, in the order of loading. Built-in drivers have no file.

    Raises ImageError for a driver that the kernel does not have.
    """
    files: dict[str, tuple[Path, list[str]]] = {}
    for line in (directory / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        # modules.dep lists dependencies in reverse: the last one has to be loaded first.
        files[_module_name(path)] = (directory / path, [_module_name(need) for need in reversed(needs.split())])
    built_in = {_module_name(line) for line in (directory / "modules.builtin").read_text().splitlines()}
    order: list[Path] = []
    for name in names:
        if name in built_in:
            continue
        if name not in files:
            raise ImageError(f"the guest's kernel has no driver {name}")
        for part in (*files[name][1], name):
            if files[part][0] not in order:
                order.append(files[part][0])
    return order


def _module_name(path: str) -> str:
    return Path(path).name.partition(".ko")[0].replace("-", "_")


def _plain_name(file: Path) -> str:
    return file.name.removesuffix(".xz")


def _decompress(file: Path) -> bytes:
    return lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()
