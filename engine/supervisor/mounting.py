"""The live mounts of a machine: plugged and mounted in order, with what stays on the guest's own disk over them."""

from __future__ import annotations

from collections.abc import Sequence

from engine.guest.guest import Guest
from engine.state.instance_paths import InstancePaths
from engine.workspaces.mount_point import MountPoint
from vmm.channel.archive import GUEST_UID
from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel

MOUNT_S = 30.0
ASIDE = "/run/sandbox/aside"  # where the guest's own directory can be reached while a mount lies over it
# Private: else the mount at the target would lie over this one, too.
KEEP = 'mkdir -p -- "$1" "$2" && mount --bind -- "$1" "$2" && mount --make-private -- "$2"'
# What `setup` has left is taken as it is; a link of its own is followed, within the guest.
BRING_BACK = f"""
set -e
aside=$1 target=$2
shift 2
for path; do
    from=$aside/$path
    if [ ! -e "$from" ]; then
        mkdir -p -- "$from"
        chown {GUEST_UID}:{GUEST_UID} -- "$from"
    fi
    if [ ! -d "$from" ]; then
        echo "setup has left something else than a directory at $target/$path" >&2
        exit 1
    fi
    mount --bind -- "$from" "$target/$path"
done
umount -- "$aside"
rmdir -- "$aside"
"""


async def mount_all(guest: Guest, mounts: Sequence[MountPoint], paths: InstancePaths) -> None:
    """Mount each, in order. Their file servers listen already. Raises GuestError and VmmError."""
    for index, mount in enumerate(mounts):
        await guest.machine.plug_mount(f"mount{index}", index, paths.sockets.mount(index))
        aside = f"{ASIDE}/{index}"
        if mount.local:
            await _succeed(guest.channel, mount, [KEEP, "sh", mount.target, aside])
        await guest.channel.call(
            "mount", timeout_s=MOUNT_S, tag=f"mount{index}", target=mount.target, ro=mount.read_only
        )
        if mount.local:
            await _succeed(guest.channel, mount, [BRING_BACK, "sh", aside, mount.target, *mount.local])


async def _succeed(channel: GuestChannel, mount: MountPoint, script: Sequence[str]) -> None:
    done = await channel.run(["sh", "-c", *script], timeout_s=MOUNT_S)
    if done.code != 0:
        words = (done.stderr or done.stdout).decode(errors="replace").strip()
        what = f"{', '.join(mount.local)} of {mount.target}"
        raise GuestError(f"{what} cannot stay on the guest's own disk", words or None)
