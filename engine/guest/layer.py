"""The disk with an agent's programs, which a sandbox was given while it was built: mounting it after a cold boot."""

from __future__ import annotations

from collections.abc import Callable

from engine.guest.services import run_logged
from vmm.channel.guest import GuestChannel

PLACE = "/opt/.agent"  # where the guest has it; links on its own disk lead there
MOUNT_S = 120.0
MOUNT = """
for device in /sys/block/vd*; do
    if [ "$(cat "$device/serial")" = "$1" ]; then
        mkdir -p -- "$2"
        exec mount -t erofs -o ro,nosuid,nodev "/dev/${device##*/}" "$2"
    fi
done
echo "there is no disk $1" >&2
exit 1
"""


async def mount_layer(channel: GuestChannel, serial: str, log: Callable[[str], None]) -> None:
    """Mount the disk with this serial number, which the machine has had since its start. Raises EngineError."""
    argv = ["sh", "-c", MOUNT, "sh", serial, PLACE]
    await run_logged(channel, log, argv, title="mounting the agent's programs", timeout_s=MOUNT_S)
