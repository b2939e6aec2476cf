"""Ways in which root ends its own machine: the user is told in a sentence, nothing is left, and `up` makes it anew."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from engine.attacks.host.check import Check
from engine.attacks.trial import Trial

_GONE_S = 90.0
_WAYS = {
    "power off": "echo o > /proc/sysrq-trigger",
    "reboot": "echo b > /proc/sysrq-trigger",
    "panic": "echo c > /proc/sysrq-trigger",
}


def ended(way: str, trial: Trial) -> Iterator[str]:
    script = f"systemd-run --quiet --collect sh -c 'sleep 1; echo 1 > /proc/sys/kernel/sysrq; {way}'"
    machine = trial.boot_id()
    trial.root(script).ok()
    deadline = time.monotonic() + _GONE_S
    ran = trial.call("exec", "--", "true", timeout_s=15)
    while ran.code in (0, None) and time.monotonic() < deadline:
        ran = trial.call("exec", "--", "cat", "/proc/sys/kernel/random/boot_id", timeout_s=15)
        if ran.code == 0 and ran.out != machine:
            break
    said = ran.err.strip()
    if ran.code in (0, None):
        yield f"the sandbox did not end in {_GONE_S:.0f} s: {ran.code}"
    elif ran.code == 3 or "Traceback" in said or not said:
        yield f"the user is told {said[:300]!r}"
    trial.call("down", "--yes")
    if left := trial.room.left():
        yield f"there is left {left[:5]}"
    trial.renew()


def alive(trial: Trial) -> Iterator[str]:
    """After all that the guest did to its own kernel and devices: the same QEMU, and commands run."""
    qemu = [command for command in trial.room.processes().values() if "qemu-system" in command]
    if len(qemu) != 1:
        yield f"there are {len(qemu)} processes of QEMU"
    ran = trial.call("exec", "--", "echo", "here", timeout_s=60)
    if ran.out != "here\n":
        yield f"a command says {(ran.out + ran.err)[:200]!r}"


ALIVE = (
    Check("kernel", "the machine after all", "Whatever root does to its kernel and its devices, the machine goes on.", alive),
)  # fmt: skip
CHECKS = tuple(
    Check("kernel", "the end", "A guest that ends itself is told of in a sentence, and nothing of it is left.", partial(ended, way), variant=name)
    for name, way in _WAYS.items()
)  # fmt: skip
