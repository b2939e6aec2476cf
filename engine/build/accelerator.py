"""Which accelerator runs guests on this host: the first one that boots a guest. That /dev/kvm exists proves nothing."""

from __future__ import annotations

import dataclasses
import os
import platform
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.build.image.cpio import Archive
from engine.decoding import decode
from engine.errors import EngineError
from engine.state.keys import inputs_key
from vmm.errors import VmmError
from vmm.machine import start_machine
from vmm.spec import Accelerator, MachineSpec, Memory, kernel_arguments
from vmm.tools import Tools

MARKER = "sandbox: the guest runs"
DEADLINES_S: Mapping[Accelerator, float] = {"kvm": 15.0, "hvf": 15.0, "tcg": 60.0}
MEMORY_BYTES = 256 * 1024 * 1024
PROBE_VERSION = 1
VERDICT = "verdict.json"
KVM = Path("/dev/kvm")

_INIT = f"""#!/bin/busybox sh
/bin/busybox echo "{MARKER}"
/bin/busybox poweroff -f
"""


class AcceleratorError(EngineError):
    """No accelerator could boot a guest."""


@dataclass(frozen=True)
class Attempt:
    """The attempt to boot a guest with one accelerator.

    `tried` names QEMU, the kernel and the accelerator. `result` is "booted", or the reason why not. `last_line` is the
    last line of the guest's console.
    """

    accelerator: Accelerator
    tried: str
    booted: bool
    result: str
    seconds: float
    last_line: str


@dataclass(frozen=True)
class Verdict:
    """The accelerator to use and the attempts that led to it."""

    accelerator: Accelerator
    attempts: tuple[Attempt, ...]

    def to_json(self) -> dict[str, Any]:
        """The verdict as a JSON value, which `from_json` reads."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, plain: Any) -> Verdict:
        """Raises ValueError for anything that `to_json` did not make."""
        return decode(cls, plain)


def verdict_key(tool_key: str) -> tuple[str, dict[str, str]]:
    """The key of a verdict made with the toolchain `tool_key`, and the named inputs that it is the hash of.

    The inputs are all that can change the verdict: QEMU and the guest's kernel, the host's kernel, the device node.
    """
    inputs = {
        "version": str(PROBE_VERSION),
        "toolchain": tool_key,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "device": _device_facts(KVM),
    }
    return inputs_key(inputs), inputs


def _device_facts(device: Path) -> str:
    try:
        status = device.stat()
    except OSError as error:
        return f"{device}: {error.strerror}"
    usable = os.access(device, os.R_OK | os.W_OK)
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return f"{device}: {stat.filemode(status.st_mode)} {number} {'usable' if usable else 'not usable'}"


def candidates(system: str = sys.platform, device: Path = KVM) -> tuple[Accelerator, ...]:
    """The accelerators that may work on this host, the best one first. Emulation comes last and works everywhere."""
    if system == "linux":
        return ("kvm", "tcg") if os.access(device, os.R_OK | os.W_OK) else ("tcg",)
    if system == "darwin":
        return ("hvf", "tcg")
    return ("tcg",)


async def probe(
    tools: Tools,
    directory: Path,
    *,
    progress: Callable[[str], None] = lambda line: None,
    names: Sequence[Accelerator] | None = None,
) -> Verdict:
    """Try to boot a tiny guest with each candidate in turn, until one boots.

    The logs and the guest's initramfs go into `directory`. An attempt takes up to 15 s with hardware that does not
    work, and up to 60 s with emulation. Raises AcceleratorError when no guest boots.
    """
    directory.mkdir(parents=True, exist_ok=True)
    initrd = directory / "probe.cpio"
    initrd.write_bytes(_probe_initramfs(tools))
    attempts: list[Attempt] = []
    for name in candidates() if names is None else names:
        attempt = await _attempt(name, tools, directory, initrd)
        attempts.append(attempt)
        progress(f"{name}: {attempt.result} ({attempt.seconds:.1f} s)")
        if attempt.booted:
            return Verdict(name, tuple(attempts))
    details = "\n".join(f"{item.accelerator}: {item.result}; last line: {item.last_line}" for item in attempts)
    raise AcceleratorError("no accelerator of this machine boots a guest", details=details)


async def _attempt(name: Accelerator, tools: Tools, directory: Path, initrd: Path) -> Attempt:
    log = directory / f"probe-{name}.log"
    log.unlink(missing_ok=True)
    spec = MachineSpec(
        name=f"probe-{name}",
        accelerator=name,
        cpus=1,
        memory=Memory(MEMORY_BYTES),
        kernel=tools.kernel,
        initrd=initrd,
        append=kernel_arguments(role="probe"),
        drives=(),
        spare_ports=0,
        channel=False,
    )
    start = time.monotonic()
    booted, result = False, "booted"
    try:
        async with start_machine(spec, tools, console_log=log) as machine:
            await machine.console.wait_for(MARKER, DEADLINES_S[name])
            booted = True
    except TimeoutError:
        result = f"no guest was running after {DEADLINES_S[name]:.0f} s"
    except VmmError as error:
        result = ": ".join([error.brief, *(error.details or "").strip().splitlines()[-1:]])
    tried = f"{tools.qemu.name} {tools.qemu.version}, kernel {tools.kernel_release}, -accel {name}"
    # The kernel may say one thing more about its end, or may not get to it.
    last_line = MARKER if booted else _last_line(log)
    return Attempt(name, tried, booted, result, round(time.monotonic() - start, 2), last_line)


def _last_line(log: Path) -> str:
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return "".join(character for character in lines[-1] if character.isprintable())[:200] if lines else ""


def _probe_initramfs(tools: Tools) -> bytes:
    archive = Archive()
    archive.add_device("dev/console", 5, 1)
    archive.add_file("bin/busybox", tools.busybox.read_bytes(), 0o755)
    archive.add_file("init", _INIT.encode(), 0o755)
    return archive.finish()
