#!/bin/sh
# The first process of every guest. The root is a shared read-only image; an ext4 disk over it holds all changes.
export PATH=/bin

die() {
    # Not to standard output: that may be a command substitution.
    echo "sandbox: the guest cannot start: $1" > /dev/console
    # Powering off ends QEMU, so that the host sees a machine that ended and not one that hangs.
    poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

role=machine
for word in $(cat /proc/cmdline); do
    case $word in sandbox.role=*) role=${word#sandbox.role=} ;; esac
done

# In an order in which each finds what it needs.
while read -r module; do
    insmod "/modules/$module" || echo "sandbox: no driver $module"
done < /modules/order

# Device names depend on the order in which drivers find them; serials do not.
find_disk() {
    for device in /sys/block/vd*; do
        if [ "$(cat "$device/serial" 2> /dev/null)" = "$1" ]; then
            echo "/dev/${device##*/}"
            return
        fi
    done
}
wait_disk() {
    tries=0
    while [ -z "$(find_disk "$1")" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || die "there is no disk with the serial $1"
        usleep 50000
    done
    find_disk "$1"
}

mkdir -p /lower /disk /sysroot
mount -t erofs -o ro "$(wait_disk root)" /lower || die "the root image cannot be mounted"
mount -t ext4 -o noatime "$(wait_disk disk)" /disk || die "the disk cannot be mounted"
mkdir -p /disk/upper /disk/work /disk/docker /disk/containerd
chmod 0710 /disk/docker /disk/containerd
mount -t overlay -o lowerdir=/lower,upperdir=/disk/upper,workdir=/disk/work overlay /sysroot ||
    die "the overlay cannot be mounted"

ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
    # The address never changes, so no daemon is needed for it.
    ip link set eth0 up
    ip address add 10.0.2.15/24 dev eth0
    ip route add default via 10.0.2.2
fi

# By the name that udev would give it: guestd must not wait for udev.
mkdir -p /dev/virtio-ports
for port in /sys/class/virtio-ports/*; do
    if [ -s "$port/name" ]; then ln -sf "../${port##*/}" "/dev/virtio-ports/$(cat "$port/name")"; fi
done

# Their drivers load when somebody opens them, so something must be there to open.
mkdir -p /dev/net
mknod -m 0666 /dev/net/tun c 10 200
mknod -m 0660 /dev/loop-control c 10 237

program=/sbin/init
if [ "$role" = builder ]; then
    mkdir -p /disk/build
    mount -o bind /disk/build /sysroot/scratch
    program=/build/builder.sh
else
    # Docker needs a real file system under it, and no overlay on an overlay.
    mkdir -p /sysroot/var/lib/docker /sysroot/var/lib/containerd
    mount -o bind /disk/docker /sysroot/var/lib/docker
    mount -o bind /disk/containerd /sysroot/var/lib/containerd
    # On each boot: a new guestd or unit needs no new image.
    cp -a /guest/. /sysroot/
fi

mkdir -p /sysroot/proc /sysroot/sys /sysroot/dev
mount -o move /proc /sysroot/proc
mount -o move /sys /sysroot/sys
mount -o move /dev /sysroot/dev
exec switch_root -c /dev/console /sysroot "$program"
