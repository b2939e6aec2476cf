"""What a guest makes grow on the host: nothing without a bound, and no command waits for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from engine.attacks.host.check import Check
from engine.attacks.trial import Trial

MB = 1 << 20
_JOURNAL, _CONSOLE, _LOG, _MEMORY = 50 * MB, 64 * MB, 4 * MB, 3 << 30
_ANSWER_S = 90.0
# Each says WORKED when it has done some of it: what was not begun made nothing grow.
WORKED = "worked"
_BOMB = "import os\nfor number in range(700):\n    try:\n        if not os.fork():\n            os.execvp('sleep', ['sleep', '20'])\n    except OSError:\n        break\n    if number == 50:\n        print('worked', flush=True)\n"
_EAT = "import mmap, sys\nkept = []\ntry:\n    for _ in range(60):\n        kept.append(mmap.mmap(-1, 1 << 26)); kept[-1][:] = b'x' * (1 << 26)\n        if len(kept) == 4:\n            print('worked', flush=True)\nexcept (OSError, MemoryError):\n    pass\n"
_CONNECTIONS = "import socket, time\nkept = []\nfor _ in range(1000):\n    try:\n        kept.append(socket.create_connection(('10.0.2.100', 443), 5))\n    except OSError:\n        break\nprint('worked' if kept else 'no connection', flush=True); time.sleep(3)\n"
_REQUESTS = "import socket\nfor _ in range(20):\n    c = socket.create_connection(('10.0.2.100', 80), 30); c.settimeout(30)\n    r = b'GET /' + b'p' * 2000 + b' HTTP/1.1\\r\\nHost: ' + b'n' * 60 + b'.example\\r\\n\\r\\n'\n    try:\n        for _ in range(100):\n            c.sendall(r)\n            if c.recv(65536) and not _:\n                print('worked', flush=True)\n    except OSError:\n        pass\n"
_WORK = {
    "processes": f"timeout 60 python3 -c \"{_BOMB}\"",
    "memory": f"systemd-run --quiet --collect --wait --pipe -p OOMScoreAdjust=1000 python3 -c \"{_EAT}\"",
    "connections": f"timeout 90 python3 -c \"{_CONNECTIONS}\"",
    "requests": f"timeout 90 python3 -c \"{_REQUESTS}\"",
    "the console": "timeout 20 sh -c 'head -c 3000000 /dev/zero | tr \"\\\\0\" x | fold -w 99 > /dev/console'; case $? in 0|124) echo worked;; esac",
    "the kernel's log": "for n in $(seq 3000); do echo \"<0>flood $n\" > /dev/kmsg || exit 1; done; echo worked",
    "a file beyond the disk": "fallocate -l 1M /big && echo worked; fallocate -l 900G /big && echo made; rm -f /big",
    "inodes": "mkdir -p /many; cd /many; timeout 30 python3 -c 'import os\nfor n in range(20000):\n    os.close(os.open(str(n), os.O_CREAT))\n    n == 99 and print(\"worked\", flush=True)'; rm -rf /many",
    "errors of devices": "dd if=/dev/vda of=/dev/null bs=512 count=1 2>/dev/null && echo worked; for n in $(seq 200); do dd if=/dev/vda of=/dev/null bs=512 count=1 skip=999999999 2>/dev/null; dd if=/dev/zero of=/dev/vda bs=512 count=1 2>/dev/null; done; true",
}  # fmt: skip


def grows(what: str, trial: Trial) -> Iterator[str]:
    before = trial.room.processes()
    ran = trial.root(_WORK[what], timeout_s=180)
    if ran.code is None:
        yield "the attempt did not end in three minutes"
    if WORKED not in ran.out:
        yield f"the attempt did not do its work: {(ran.out + ran.err)[-300:]!r}"
    if "made" in ran.out:
        yield "a file larger than the disk was made"
    if trial.call("exec", "--", "true", timeout_s=_ANSWER_S).code != 0:
        yield f"afterwards no command runs within {_ANSWER_S:.0f} s"
    after = trial.room.processes()
    if len(after) > len(before) + 8:
        yield f"the host has {len(after)} processes for it, and had {len(before)}"
    yield from _files(trial)
    yield from _memory(after)


def _files(trial: Trial) -> Iterator[str]:
    for pattern, most in (("journal.jsonl*", _JOURNAL), ("console*.log", _CONSOLE), ("supervisor*.log", _LOG)):
        size = sum(path.stat().st_blocks * 512 for path in trial.instance.glob(pattern))
        if size > most:
            yield f"{pattern} has {size >> 20} MiB"


def _memory(processes: dict[int, str]) -> Iterator[str]:
    for pid, command in processes.items():
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            opened = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
        except OSError:
            continue
        most = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
        name = command.split()[0].rpartition("/")[2]
        if most > (_MEMORY if "qemu-system" in command else 300 * MB):
            yield f"{name} had {most >> 20} MiB of memory"
        if opened > 3000:
            yield f"{name} has {opened} files open"


CHECKS = tuple(
    Check("resources", "growth", "The host's processes, memory, files and logs stay within bounds, and commands go on.", partial(grows, what), variant=what)
    for what in _WORK
)  # fmt: skip
