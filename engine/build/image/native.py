"""Run the recipe on this host: as root, or as a user to whom newuidmap gives further user ids."""

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
# An ordinary user's build works in a tmpfs: on a disk, the user could not delete its files, which belong to other ids.
MEMORY_NEEDED = 5 * 1024**3
ENTER = Path(__file__).with_name("enter.sh")
NOT_FETCHED = ("Hash Sum mismatch", "Failed to fetch", "Could not connect", "Temporary failure")
NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def native_prefix() -> tuple[str, ...] | None:
    """The beginning of a command line that makes this user root in new namespaces; None where that is impossible.

    The processes inside die with that command, and the mounts disappear with the processes, even after kill -9.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    if os.geteuid() == 0:
        return (unshare, *NAMESPACES)
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a user id without a name, as in many containers
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
    """Whether this user can make the namespaces and mount in them, which containers often forbid. Tries it."""
    prefix = native_prefix()
    if prefix is None:
        return False
    try:
        await run([*prefix, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], timeout_s=20)
    except ProcessError:
        return False
    return True


async def run_natively(root: Path, work: Path, output: Path, *, progress: Callable[[str], None]) -> None:
    """Run the recipe in the build root `root`. It works in `work`, and its results go to `output`.

    Takes about two minutes. Raises ImageError when the recipe fails (with the end of its output), and after
    BUILD_TIMEOUT_S seconds.
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
    """The proxies of the host's apt as environment variables: the recipe's apt does not read the host's settings."""
    names = {"Acquire::http::Proxy": "http_proxy", "Acquire::https::Proxy": "https_proxy"}
    return {names[name]: url for name, url in host_settings(tuple(names)).items() if url != "DIRECT"}


def explain(brief: str, output: str) -> ImageError:
    """The error for a recipe that failed with this output."""
    lines = [line for line in output.splitlines() if line.strip()]
    hint = full_disk_hint(output)
    if hint is None and any(words in output for words in NOT_FETCHED):
        hint = "packages could not be fetched: is the mirror reachable? Run it again"
    return ImageError(f"the guest image could not be built: {brief}", "\n".join(lines[-25:]), hint)
