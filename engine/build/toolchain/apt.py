"""Fetching Debian packages without root and without changing the system: apt works in a directory of its own."""

from __future__ import annotations

import asyncio
import fnmatch
import os
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.build.toolchain.recipe import ToolchainError, architecture
from engine.cache.disk_space import full_disk_hint
from engine.recall.watch import asking
from engine.resolve.clients import configuration_of
from engine.resolve.debian import MIRROR_VARIABLE, DebianMirrors, debian_mirrors, source_lines
from vmm.process import ProcessError, ask, run

KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)
UPDATE_TIMEOUT_S = 180.0
DOWNLOAD_TIMEOUT_S = 1200.0
UNPACK_TIMEOUT_S = 120.0
CUT = ("Hash Sum mismatch", "unexpected size", "Error reading from server", "Connection reset")
ANSWERED = re.compile(r"  [45]\d\d  ")  # an HTTP status, as apt prints it

# apt reads the host's configuration first, which may hold proxies and credentials. Then these hooks are removed from
# it: they are shell commands for changes of the host's system, and nothing here changes that system.
HOOKS = (
    "APT::Update::Pre-Invoke",
    "APT::Update::Post-Invoke",
    "APT::Update::Post-Invoke-Success",
    "DPkg::Pre-Invoke",
    "DPkg::Post-Invoke",
    "DPkg::Pre-Install-Pkgs",
    "DPkg::Tools",
    "AptCli::Hooks",
)


@dataclass(frozen=True)
class DebianPackage:
    """A downloaded package. `file` is its .deb."""

    name: str
    version: str
    file: Path


def find_keyring() -> Path:
    """The file with the keys that sign Debian's archive. Raises ToolchainError when the host has none."""
    for keyring in KEYRINGS:
        if keyring.is_file():
            return keyring
    raise ToolchainError(
        "the keys of Debian's archive are missing, so packages could not be verified",
        hint="install the package debian-archive-keyring",
    )


def host_settings(names: Sequence[str]) -> dict[str, str]:
    """The values of those of these apt settings that are set on the host; empty where there is no apt."""
    words = [word for number, name in enumerate(names) for word in (f"V{number}", name)]
    with asking(*configuration_of("apt-config")):
        done = ask(["apt-config", "shell", *words], timeout_s=10)
    if done is None or done.code != 0:
        return {}
    values = dict(word.split("=", 1) for word in shlex.split(done.stdout.decode()) if "=" in word)
    return {name: values[f"V{number}"] for number, name in enumerate(names) if values.get(f"V{number}")}


async def fetch(
    directory: Path,
    names: Sequence[str],
    suite: str,
    *,
    progress: Callable[[str], None],
    keyring: Path | None = None,
    mirrors: DebianMirrors | None = None,
) -> list[DebianPackage]:
    """Download the packages and everything they depend on into `directory`; returns them sorted by name.

    apt verifies them. Raises ToolchainError when apt is missing, the mirror does not answer, a signature or hash is
    wrong, or the disk is full. Waits at most UPDATE_TIMEOUT_S + DOWNLOAD_TIMEOUT_S seconds.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise ToolchainError(f"{program} is needed to fetch packages and is not on this machine")
    command = _prepare(directory, suite, keyring or find_keyring(), mirrors or debian_mirrors())
    progress(f"reading the package lists of {suite}")
    await _apt([*command, "update", "-q"], UPDATE_TIMEOUT_S, "the package lists could not be fetched")
    progress(f"downloading {len(names)} packages and what they need")
    install = ["install", "-q", "-y", "--download-only", "--no-install-recommends", *names]
    seen = 0

    def count(line: str) -> None:
        nonlocal seen
        if line.startswith("Get:"):
            seen += 1
            if seen % 25 == 0:
                progress(f"downloaded {seen} packages")
        elif line.startswith("Need to get"):
            progress(line.lower())

    await _apt([*command, *install], DOWNLOAD_TIMEOUT_S, "the packages could not be downloaded", count)
    return _downloaded(directory)


def _downloaded(directory: Path) -> list[DebianPackage]:
    packages = []
    for file in sorted((directory / "cache/archives").glob("*.deb")):
        # apt calls the files name_version_arch.deb, and writes a colon in the version as %3a.
        name, version, _ = file.stem.split("_")
        packages.append(DebianPackage(name, version.replace("%3a", ":"), file))
    return packages


def _prepare(directory: Path, suite: str, keyring: Path, mirrors: DebianMirrors) -> list[str]:
    directory = directory.resolve()
    for name in ("state/lists/partial", "cache/archives/partial", "log"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "status").write_text("")
    debian = architecture().debian
    # A host may be configured to fetch further indexes of each source, such as desktop metadata: we need packages only.
    options = f"[arch={debian} signed-by={keyring} target=Packages lang=none] "
    (directory / "sources.list").write_text("\n".join(source_lines(mirrors, suite, options)) + "\n")
    settings = {
        "Dir::State": directory / "state",
        "Dir::State::status": directory / "status",
        "Dir::Cache": directory / "cache",
        "Dir::Log": directory / "log",
        "Dir::Etc::sourcelist": directory / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::Etc::trusted": "/dev/null",
        "Dir::Etc::trustedparts": "/dev/null",
        "APT::Architecture": debian,
        "APT::Get::AllowUnauthenticated": "false",
        "APT::Sandbox::User": "root",  # otherwise apt, as root, becomes a user who may not write here
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::Retries": "3",
        "Acquire::Languages": "none",
    }
    lines = [f"#clear {name};" for name in (*HOOKS, "APT::Architectures", "APT::Default-Release")]
    lines += [f'{name} "{value}";' for name, value in settings.items()]
    (directory / "apt.conf").write_text("\n".join(lines) + "\n")
    return ["apt-get", "-c", str(directory / "apt.conf")]


async def _apt(argv: list[str], timeout_s: float, brief: str, on_line: Callable[[str], None] | None = None) -> None:
    try:
        done = await run(argv, timeout_s=timeout_s, on_line=on_line)
    except ProcessError as error:
        raise _explain(error, brief) from error
    # `apt-get update` ends with 0 even when a source cannot be fetched, and only prints a warning.
    complaints = [line for line in done.stderr.decode(errors="replace").splitlines() if line.startswith(("E:", "Err:"))]
    failed = [line for line in done.stdout.decode(errors="replace").splitlines() if line.startswith("Err:")]
    if complaints or (failed and "update" in argv):
        raise ToolchainError(brief, "\n".join(complaints + failed), _hint("\n".join(complaints + failed)))


def _explain(error: ProcessError, brief: str) -> ToolchainError:
    # Indented lines belong to the failure before them. Those before the first failure list the packages to install.
    lines: list[str] = []
    for line in error.output.splitlines():
        if line.startswith(("E:", "W:", "Err:", "dpkg")) or (lines and line.startswith("  ")):
            lines.append(line)
    details = "\n".join(lines[-12:]) or error.details or error.brief
    return ToolchainError(brief, details, _hint(error.output))


def _hint(output: str) -> str:
    if full := full_disk_hint(output):
        return full
    if "NO_PUBKEY" in output or "signature" in output.lower() or "not signed" in output:
        return "the packages could not be verified: is the package debian-archive-keyring up to date?"
    if any(words in output for words in CUT):
        return "the download was cut or changed on its way: run it again"
    if ANSWERED.search(output):
        return f"the Debian mirror answered with an error: try again later, or name another in {MIRROR_VARIABLE}"
    return f"is the Debian mirror reachable from this machine? {MIRROR_VARIABLE} can name another"


async def unpack(packages: Sequence[DebianPackage], target: Path, *, skip: Sequence[str] = ()) -> None:
    """Unpack the packages below `target`, except those whose names match a pattern in `skip`.

    No maintainer script runs. Raises ToolchainError when a package is broken or the disk is full.
    """
    target.mkdir(parents=True, exist_ok=True)
    chosen = [package for package in packages if not any(fnmatch.fnmatch(package.name, glob) for glob in skip)]
    turn = asyncio.Semaphore(max(1, min(4, os.cpu_count() or 1)))

    async def one(package: DebianPackage) -> None:
        async with turn:
            try:
                await run(["dpkg-deb", "-x", str(package.file), str(target)], timeout_s=UNPACK_TIMEOUT_S)
            except ProcessError as error:
                raise _explain(error, f"the package {package.name} could not be unpacked") from error

    # The group cancels the other tasks when one fails, and their processes end with them.
    try:
        async with asyncio.TaskGroup() as group:
            for package in chosen:
                group.create_task(one(package))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
