"""The live mounts of a machine: plugged and mounted in order, with what stays on the guest's own disk over them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from engine.guest.guest import Guest
from engine.state.instance_paths import InstancePaths
from engine.workspaces.hiding import all_but, hidden_rules
from engine.workspaces.mount_point import MountPoint
from vmm.channel.archive import GUEST_UID
from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel
from vmm.virtiofs import SharedDirectory

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


# The file alone stays mounted: its share's directory has nothing else to show.
BIND_FILE = """
set -e
share=$1 name=$2 target=$3
make() {
    [ -d "$1" ] && return
    make "$(dirname -- "$1")"
    mkdir -- "$1"
    chown --reference="$(dirname -- "$1")" -- "$1"
}
if [ -d "$target" ]; then
    echo "$target is a directory of the machine" >&2
    exit 1
fi
make "$(dirname -- "$target")"
[ -e "$target" ] || : > "$target"
mount --bind -- "$share/$name" "$target"
umount -- "$share"
rmdir -- "$share"
"""


def share_of(mount: MountPoint, tag: str, *, unconfined: bool = False) -> SharedDirectory:
    """What the file server of a mount serves. Of a single file that is its directory, without all the rest."""
    source = Path(mount.source)
    file = source.name if mount.is_file else ""
    return SharedDirectory(
        source.parent if mount.is_file else source,
        tag,
        mount.read_only,
        mount.protected,
        unconfined,
        hidden_rules(all_but(file) if file else mount.hide),
        mount.local,
        file,
        mount.limit,
    )


async def plug_all(guest: Guest, mounts: Sequence[MountPoint], paths: InstancePaths) -> None:
    """Plug a device for each. Their file servers listen already. Raises VmmError."""
    for index, _ in enumerate(mounts):
        await guest.machine.plug_mount(f"mount{index}", index, paths.sockets.mount(index))


async def mount_all(guest: Guest, mounts: Sequence[MountPoint], begun: Callable[[int], Awaitable[None]]) -> None:
    """Mount each, in order. Their devices are plugged; `begun` waits until QEMU has begun with one of them, and raises
    EngineError where it does not. Raises that, GuestError and VmmError."""
    for index, mount in enumerate(mounts):
        aside = f"{ASIDE}/{index}"
        target = aside if mount.is_file else mount.target
        failure = f"{', '.join(mount.local)} of {mount.target} cannot stay on the guest's own disk"
        if mount.local:
            await _succeed(guest.channel, failure, [KEEP, "sh", mount.target, aside])
        await guest.channel.call("mount", timeout_s=MOUNT_S, tag=f"mount{index}", target=target, ro=mount.read_only)
        await begun(index)
        if mount.local:
            await _succeed(guest.channel, failure, [BRING_BACK, "sh", aside, mount.target, *mount.local])
        if mount.is_file:
            failure = f"{mount.source} cannot be mounted on {mount.target}"
            await _succeed(guest.channel, failure, [BIND_FILE, "sh", aside, Path(mount.source).name, mount.target])


async def _succeed(channel: GuestChannel, failure: str, script: Sequence[str]) -> None:
    done = await channel.run(["sh", "-c", *script], timeout_s=MOUNT_S)
    if done.code != 0:
        words = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise GuestError(failure, words or None)
