"""Run the recipe without any privilege: in a machine of its own, whose root file system is the build root."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from engine.build.image.initramfs import pack_initramfs
from engine.build.image.native import explain
from engine.build.image.recipe import PACKAGES, ROOT, ImageError, RecipeProgress
from engine.gateway.host_proxies import host_variables
from engine.gateway.journal import Journal
from engine.gateway.policy import Policy
from engine.gateway.proxies import Proxies
from engine.gateway.rules import Rule
from engine.guest.network import open_network
from engine.resolve.clients import GUEST_CLIENTS
from engine.resolve.debian import DebianMirrors
from vmm.errors import VmmError
from vmm.jail import tool_jail
from vmm.machine import Machine, start_machine
from vmm.process import ProcessError, run, scratch_directory
from vmm.spec import GATEWAY_ADDRESS, Accelerator, Drive, MachineSpec, Memory, kernel_arguments
from vmm.tools import Tools

BUILD_TIMEOUT_S = 3600.0  # ten minutes under emulation on two free cores
FIRST_WORD_S = 120.0
SCRATCH_BYTES = 8 * 1024**3
OUTPUT_BYTES = 3 * 1024**3
RESULT = "RESULT "
FILES = (PACKAGES, GUEST_CLIENTS, ROOT)


def mirror_policy(mirrors: DebianMirrors) -> Policy:
    """What the builder machine may reach: the host's Debian mirrors, and nothing else."""
    rules = []
    for url in filter(None, (mirrors.archive, mirrors.security)):
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        rules.append(Rule(parts.hostname or "", port, origin="the host's Debian mirror", private=True))
    return Policy(rules)


async def run_in_builder(
    root: Path,
    work: Path,
    output: Path,
    tools: Tools,
    mirrors: DebianMirrors,
    *,
    progress: Callable[[str], None],
    accelerator: Accelerator = "tcg",
    sockets: Path | None = None,
) -> None:
    """Run the recipe of the build root `root` in a machine. The disks lie in `work`, the results go to `output`.

    Raises ImageError when the recipe fails (with the end of its output), when the machine ends early, and after
    BUILD_TIMEOUT_S seconds.
    """
    policy = mirror_policy(mirrors)
    _write_hosts(root, policy)
    shutil.copy2(Path(__file__).with_name("builder.sh"), root / "build/builder.sh")
    (root / "build/builder.sh").chmod(0o755)
    progress("making the builder machine's disks")
    drives = await _make_disks(root, work, tools)
    initrd = work / "initramfs"
    initrd.write_bytes(pack_initramfs(tools))
    async with contextlib.AsyncExitStack() as stack:
        if sockets is None:
            sockets = stack.enter_context(scratch_directory("sandbox-", _short_directory()))
        journal = stack.enter_context(contextlib.closing(Journal(work / "journal.jsonl")))
        net = await stack.enter_async_context(
            open_network(tools, policy, sockets, journal, proxies=Proxies(host_variables(os.environ)))
        )
        spec = MachineSpec(
            name="builder",
            accelerator=accelerator,
            cpus=max(1, min(4, os.cpu_count() or 1)),
            memory=Memory(_memory_size()),
            kernel=tools.kernel,
            initrd=initrd,
            append=kernel_arguments(role="builder"),
            drives=drives,
            network=net.network,
            spare_ports=0,
        )
        try:
            machine = await stack.enter_async_context(
                start_machine(spec, tools, net.carrier, console_log=work / "console.log")
            )
            await _follow(machine, RecipeProgress(progress))
        except VmmError as error:
            raise ImageError(f"the builder machine failed: {error.brief}", error.details, error.hint) from error
    progress("reading the image from the builder machine")
    await asyncio.to_thread(_read_output, work / "output.raw", output)


def _write_hosts(root: Path, policy: Policy) -> None:
    # The machine has no resolver. The names of the mirrors are all it needs, and they lead to the gateway.
    names = dict.fromkeys(rule.host for rule in policy.rules)
    lines = ["127.0.0.1 localhost", *(f"{GATEWAY_ADDRESS} {name}" for name in names)]
    (root / "etc/hosts").write_text("".join(f"{line}\n" for line in lines))


async def _make_disks(root: Path, work: Path, tools: Tools) -> tuple[Drive, ...]:
    paths = {name: work / f"{name}.raw" for name in ("root", "disk", "output")}
    for name, size in (("disk", SCRATCH_BYTES), ("output", OUTPUT_BYTES)):
        with paths[name].open("wb") as stream:
            stream.truncate(size)
    # The scratch disk needs no journal: nothing on it has to survive a crash.
    ext4 = ["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard", str(paths["disk"])]
    try:
        await run(
            tools.mkfs_erofs.command("--quiet", "--all-root", str(paths["root"]), str(root)),
            env=tools.mkfs_erofs.env,
            timeout_s=120,
            jail=tool_jail(tools.mkfs_erofs, read=(root,), fill=(work,)),
        )
        jail = tool_jail(tools.mkfs_ext4, write=(paths["disk"],))
        await run(tools.mkfs_ext4.command(*ext4), env=tools.mkfs_ext4.env, timeout_s=120, jail=jail)
    except ProcessError as error:
        raise explain(error.brief, error.output) from error
    return (
        Drive(paths["root"], "root", "raw", read_only=True),
        Drive(paths["disk"], "disk", "raw"),
        Drive(paths["output"], "output", "raw"),
    )


async def _follow(machine: Machine, report: Callable[[str], None]) -> None:
    """Read the output of the recipe until its last line, which says how it ended. Raises ImageError."""
    reader, writer = await machine.channel_streams()
    words: deque[str] = deque(maxlen=60)
    try:
        async with asyncio.timeout(BUILD_TIMEOUT_S):
            while True:
                async with asyncio.timeout(FIRST_WORD_S if not words else None):
                    line = (await reader.readline()).decode(errors="replace")
                if not line:
                    raise ImageError(
                        "the builder machine ended before the image was ready",
                        "\n".join([*words, machine.last_words()]),
                    )
                # apt overwrites lines with carriage returns: only the last version counts.
                line = line.rstrip().rpartition("\r")[2]
                if line.startswith(RESULT):
                    break
                words.append(line)
                report(line)
    except TimeoutError:
        details = "\n".join([*words, machine.last_words()])
        raise ImageError("the builder machine did not finish in time", details) from None
    finally:
        writer.close()
    if line != f"{RESULT}0":
        raise explain("the recipe failed in the builder machine", "\n".join(words))


def _read_output(disk: Path, output: Path) -> None:
    try:
        with tarfile.open(disk, "r:") as archive:
            for name in FILES:
                source = archive.extractfile(name)
                if source is None:
                    raise KeyError(name)
                # The archive is untrusted data, although the machine is ours: only these three names are read.
                with (output / name).open("wb") as target:
                    shutil.copyfileobj(source, target, 1024 * 1024)
    except (tarfile.TarError, KeyError) as error:
        raise ImageError("the builder machine's result cannot be read", str(error)) from error


def _memory_size() -> int:
    """A quarter of the host's memory, between 2 and 4 GiB. More would only be page cache, and the CPU is the limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(max(total // 4, 2 * 1024**3), 4 * 1024**3) // 1024**2 * 1024**2


def _short_directory() -> Path | None:
    """A directory for sockets, whose paths must be short: /tmp where the user's temporary directory has a long path."""
    return None if len(tempfile.gettempdir()) < 60 else Path("/tmp")
