"""The root file system that the recipe runs in: unpacked packages, on this host and in the builder machine alike."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from engine.build.image.recipe import BUILD_ROOT_PACKAGES, host_certificates, write_inputs
from engine.build.toolchain.apt import fetch, unpack
from engine.resolve.debian import SUITE, DebianMirrors, source_lines

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DIRECTORIES = (
    "build",
    "scratch",
    "out",
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "root",
    "etc/apt/apt.conf.d",
    "var/lib/dpkg",
)
NOT_KEPT = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info")


async def make_build_root(
    root: Path, scratch: Path, mirrors: DebianMirrors, *, progress: Callable[[str], None]
) -> None:
    """Make a build root in `root`; `scratch` is left empty. Takes about ten seconds, most of it the download.

    Raises ToolchainError (no mirror, bad signature, disk full).
    """
    packages = await fetch(scratch, BUILD_ROOT_PACKAGES, SUITE, progress=progress, mirrors=mirrors)
    # These are links, as in every Debian with a merged /usr. Unpacking a package first would make them directories.
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    await unpack(packages, root)
    shutil.rmtree(scratch)
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in NOT_KEPT:
        shutil.rmtree(root / name, ignore_errors=True)
    _replace_maintainer_scripts(root)
    certificates = host_certificates()
    _bundle_certificates(root, certificates)
    options = f"[signed-by={KEYRING}] "
    write_inputs(root / "build", source_lines(mirrors, SUITE, options), certificates)


def _replace_maintainer_scripts(root: Path) -> None:
    """Do the few things that the recipe needs and that the packages' own scripts would have done."""
    for name in ("passwd", "group"):
        shutil.copyfile(root / f"usr/share/base-passwd/{name}.master", root / "etc" / name)
    # apt downloads as this user.
    with (root / "etc/passwd").open("a") as stream:
        stream.write("_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n")
    (root / "usr/bin/awk").unlink(missing_ok=True)
    (root / "usr/bin/awk").symlink_to("mawk")
    (root / "var/lib/dpkg/status").touch()
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    (root / "tmp").chmod(0o1777)


def _bundle_certificates(root: Path, extra: dict[str, bytes]) -> None:
    trusted = [file.read_bytes() for file in sorted((root / "usr/share/ca-certificates").rglob("*.crt"))]
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_bytes(b"\n".join([*trusted, *extra.values()]))
