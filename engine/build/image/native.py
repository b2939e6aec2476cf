"""Run the recipe on this machine: as root, or as a user whom newuidmap gives more user ids."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path

from engine.build.image.recipe import ImageError, RecipeProgress
from engine.build.toolchain.apt import host_settings
from engine.cache.disk_space import full_disk_hint
from vmm.process import ProcessError, run

BUILD_TIMEOUT_S = 1800.0
MEMORY_NEEDED = 5 * 1024**3  # a user's build works in memory: its files belong to ids that the user cannot delete
ENTER = Path(__file__).with_name("enter.sh")
NOT_FETCHED = ("Hash Sum mismatch", "Failed to fetch", "Could not connect", "Temporary failure")
NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def native_prefix() -> tuple[str, ...] | None:
    """How to become root of namespaces of one's own here, as a command prefix; None when it cannot be.

    The processes inside die with that command, and the mounts with the processes: kill -9 leaves neither.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    if os.geteuid() == 0:
        return (unshare, *NAMESPACES)
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # containers run as numbers that no file names
        return None
    if shutil.which("newuidmap") is None or not _has_ids(name, Path("/etc/subuid")) or _free_memory() < MEMORY_NEEDED:
        return None
    return (unshare, "--user", "--map-root-user", "--map-auto", *NAMESPACES)


def _has_ids(name: str, file: Path) -> bool:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return False
    return any(
        line.split(":")[0] == name and int(line.split(":")[2]) >= 65536 for line in lines if line.count(":") == 2
    )


def _free_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


async def can_build_natively() -> bool:
    """Whether namespaces can really be made and mounted in: containers often forbid what `native_prefix` promises."""
    prefix = native_prefix()
    if prefix is None:
        return False
    try:
        await run([*prefix, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], timeout_s=20)
    except ProcessError:
        return False
    return True


async def run_natively(root: Path, work: Path, output: Path, *, progress: Callable[[str], None]) -> None:
    """Run the recipe in the build root `root`, working in `work`, results in `output`. Takes about two minutes.

    Raises ImageError with the recipe's last words, or after BUILD_TIMEOUT_S seconds.
    """
    prefix = native_prefix()
    if prefix is None:
        raise ImageError("this user cannot build the guest image natively", hint="use the builder machine")
    memory = "tmpfs" if os.geteuid() != 0 else "directory"
    argv = [*prefix, "/bin/sh", str(ENTER), str(root), str(work), str(output), memory]
    try:
        await run(argv, env=apt_proxies(), timeout_s=BUILD_TIMEOUT_S, on_line=RecipeProgress(progress))
    except ProcessError as error:
        raise explain(error.brief, error.output) from error


def apt_proxies() -> dict[str, str]:
    """The proxies of the host's apt as variables: the recipe's apt does not read the host's configuration."""
    names = {"Acquire::http::Proxy": "http_proxy", "Acquire::https::Proxy": "https_proxy"}
    return {names[name]: url for name, url in host_settings(tuple(names)).items() if url != "DIRECT"}


def explain(brief: str, output: str) -> ImageError:
    """What the end of the recipe's output means."""
    lines = [line for line in output.splitlines() if line.strip()]
    hint = full_disk_hint(output)
    if hint is None and any(words in output for words in NOT_FETCHED):
        hint = "packages could not be fetched: is the mirror reachable? Run it again"
    return ImageError(f"the guest image could not be built: {brief}", "\n".join(lines[-25:]), hint)
