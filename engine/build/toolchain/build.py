"""Make the toolchain: fetch packages, unpack them, keep what the programs need, try the programs, describe them."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from engine.build.toolchain.apt import DebianPackage, fetch, unpack
from engine.build.toolchain.recipe import (
    EXTRA_LIBRARIES,
    FIRMWARE,
    KERNEL_PACKAGES,
    NEEDED_BYTES,
    NOT_UNPACKED,
    PROGRAM_PACKAGES,
    RECIPE_VERSION,
    Architecture,
    Program,
    ToolchainError,
    architecture,
    programs,
)
from engine.build.toolchain.system import parse_version, system_tools
from engine.cache.disk_space import making
from engine.files import replace_private
from engine.resolve.debian import SUITE, DebianMirrors
from engine.state.keys import bytes_key, inputs_key
from vmm.errors import VmmError
from vmm.process import ProcessError, run
from vmm.tools import DESCRIPTION, Tool, Tools, load_tools, to_json

PROBE_TIMEOUT_S = 30.0


def toolchain_key() -> tuple[str, dict[str, str]]:
    """The content key of this host's toolchain, and the named inputs that it is the hash of."""
    arch = architecture()
    system = system_tools()
    inputs = {
        "recipe": str(RECIPE_VERSION),
        "suite": SUITE,
        "architecture": arch.debian,
        "packages": " ".join(_package_names(arch, private=system is None)),
    }
    if system is not None:
        inputs |= {f"system {tool.name}": f"{tool.path} {tool.version}" for tool in system.values()}
    return inputs_key(inputs), inputs


async def build_toolchain(
    directory: Path,
    *,
    progress: Callable[[str], None],
    keyring: Path | None = None,
    mirrors: DebianMirrors | None = None,
) -> Tools:
    """Fill the empty `directory` with a toolchain. Its tools.json is written last, and marks a complete toolchain.

    The directory may be renamed afterwards; load the tools again then. Raises ToolchainError when there is no mirror, a
    signature is bad, the download is cut, the disk is full or a program does not run. Waits about 25 minutes at most,
    the deadlines of apt.
    """
    directory = directory.resolve()
    arch = architecture()
    system = system_tools()
    with making("the toolchain", directory, NEEDED_BYTES, ToolchainError):
        work = directory / "work"
        names = _package_names(arch, private=system is None)
        packages = await fetch(work, names, SUITE, progress=progress, keyring=keyring, mirrors=mirrors)
        progress(f"unpacking {len(packages)} packages")
        await unpack(packages, work / "root", skip=NOT_UNPACKED)
        kernel, release, modules, busybox = await _keep_kernel(work / "root", directory, arch)
        chosen = system if system is not None else await _keep_programs(work / "root", directory, arch, packages)
        tools = Tools(
            **chosen,
            qemu_data=() if system is not None else ("-L", str(directory / "share/qemu")),
            kernel=kernel,
            kernel_release=release,
            modules=modules,
            busybox=busybox,
            id=_identify(packages, chosen.values()),
        )
        (directory / "packages.txt").write_text("".join(f"{item.name}={item.version}\n" for item in packages))
        shutil.rmtree(work)
        replace_private(directory / DESCRIPTION, to_json(tools, directory))
    progress(f"toolchain ready: QEMU {tools.qemu.version}, kernel {tools.kernel_release}")
    return tools


def load_toolchain(directory: Path) -> Tools:
    """The toolchain that `build_toolchain` finished in `directory`. Raises ToolchainError when there is none."""
    try:
        return load_tools(directory.resolve())
    except FileNotFoundError as error:
        raise ToolchainError(f"there is no complete toolchain in {directory}") from error
    except VmmError as error:
        raise ToolchainError(error.brief, error.details, error.hint) from error


def _package_names(arch: Architecture, *, private: bool) -> list[str]:
    names = [*KERNEL_PACKAGES, arch.kernel_package]
    return sorted([*names, *PROGRAM_PACKAGES, arch.qemu_package] if private else names)


async def _keep_programs(
    root: Path, directory: Path, arch: Architecture, packages: Sequence[DebianPackage]
) -> dict[str, Tool]:
    libraries = root / "usr/lib" / arch.triplet
    loader = libraries / arch.loader
    if not loader.is_file():
        raise ToolchainError(f"the packages have no {arch.loader}")
    for name in ("bin", "lib", "etc", "share/qemu", "lib/qemu"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    shutil.copy2(loader, directory / "lib" / arch.loader)
    table = programs(arch)
    needed: set[str] = set(EXTRA_LIBRARIES)
    for program in table.values():
        shutil.copy2(root / program.path, directory / "bin" / program.name)
        needed |= await _libraries(loader, libraries, root / program.path)
    for name in sorted(needed):
        shutil.copy2(libraries / name, directory / "lib" / name)
    for pattern in FIRMWARE:
        for file in root.glob(pattern):
            shutil.copy2(file, directory / "share/qemu" / file.name)
    shutil.copy2(root / "etc/mke2fs.conf", directory / "etc/mke2fs.conf")
    tools = {field: await _try_program(field, program, directory, arch) for field, program in table.items()}
    # passt says its version to a terminal only: into a pipe it writes nothing.
    versions = {package.name: package.version for package in packages}
    return tools | {"passt": dataclasses.replace(tools["passt"], version=versions["passt"])}


async def _libraries(loader: Path, libraries: Path, program: Path) -> set[str]:
    """The names of the shared libraries that the private loader needs for `program`.

    Raises ToolchainError when one of them is not in `libraries`.
    """
    argv = [*_loader_argv(loader, libraries), "--list", str(program)]
    try:
        listed = await run(argv, timeout_s=PROBE_TIMEOUT_S)
    except ProcessError as error:
        raise ToolchainError(f"{program.name} cannot be loaded", error.details) from error
    names = set()
    for line in listed.stdout.decode().splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        if not arrow or "/" in name:
            continue  # the loader itself, or the kernel's vdso, which is no file
        if not rest.startswith(f"{libraries}/"):
            raise ToolchainError(f"{program.name} needs {name}, which no package of the toolchain has", rest)
        names.add(name)
    return names


def _loader_argv(loader: Path, libraries: Path) -> tuple[str, ...]:
    # The loader must not use the host's cache of libraries: a program with parts of two C libraries crashes.
    return (str(loader), "--inhibit-cache", "--library-path", str(libraries))


async def _try_program(field: str, program: Program, directory: Path, arch: Architecture) -> Tool:
    path = directory / "bin" / program.name
    argv = (*_loader_argv(directory / "lib" / arch.loader, directory / "lib"), str(path))
    # The host may have modules of another QEMU, which ours must not load. Machines without a display need no modules.
    env = {"qemu": {"QEMU_MODULE_DIR": str(directory / "lib/qemu")}, "mkfs_ext4": _mke2fs_environment(directory)}
    # netcat prints its help and fails, which proves that it runs.
    try:
        done = await run([*argv, program.version_argument], timeout_s=PROBE_TIMEOUT_S, check=field != "connect")
    except ProcessError as error:
        raise ToolchainError(f"{program.name} of the toolchain does not run", error.details) from error
    answer = (done.stdout + done.stderr).decode(errors="replace")
    if field == "connect" and "OpenBSD netcat" not in answer:
        raise ToolchainError("nc of the toolchain does not run", answer)
    return Tool(program.name, argv, env.get(field, {}), parse_version(answer), "private", path)


def _mke2fs_environment(directory: Path) -> dict[str, str]:
    return {"MKE2FS_CONFIG": str(directory / "etc/mke2fs.conf")}


async def _keep_kernel(root: Path, directory: Path, arch: Architecture) -> tuple[Path, str, Path, Path]:
    """Copy kernel, modules and busybox from the unpacked `root`; returns (vmlinuz, release, modules, busybox)."""
    kernels = sorted((root / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise ToolchainError(f"expected one kernel in {arch.kernel_package}, found {len(kernels)}")
    release = kernels[0].name.removeprefix("vmlinuz-")
    parts = root / "usr/lib/modules" / release
    target = directory / "kernel"
    modules = target / "lib/modules" / release
    modules.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(parts, modules, symlinks=True)
    for link in ("build", "source"):
        (modules / link).unlink(missing_ok=True)
    shutil.copy2(kernels[0], target / "vmlinuz")
    shutil.copy2(root / "usr/bin/busybox", target / "busybox")
    # In an installed package the maintainer script makes modules.dep. It does not run here.
    libraries = root / "usr/lib" / arch.triplet
    depmod = ("--argv0", "depmod", str(root / "usr/bin/kmod"), "-b", str(target), release)
    try:
        await run([*_loader_argv(libraries / arch.loader, libraries), *depmod], timeout_s=PROBE_TIMEOUT_S)
    except ProcessError as error:
        raise ToolchainError("the kernel's modules could not be listed", error.details) from error
    return target / "vmlinuz", release, modules, target / "busybox"


def _identify(packages: Sequence[DebianPackage], tools: Iterable[Tool]) -> str:
    lines = [f"recipe {RECIPE_VERSION}"]
    lines += sorted(f"{package.name}={package.version}" for package in packages)
    lines += [f"{tool.path} {tool.version}" for tool in tools if tool.origin == "system"]
    return bytes_key("\n".join(lines).encode())
