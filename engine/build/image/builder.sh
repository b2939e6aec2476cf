#!/bin/sh
# The first process of the builder machine, after the initramfs: runs the recipe and hands its result to the host.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
exec > /dev/virtio-ports/org.sandbox.agent 2>&1

end() {
    sync
    echo "RESULT $1"
    # The host ends the machine when it has read that line; ending first would make QEMU's exit race with it.
    while :; do sleep 3600; done
}

mount -t tmpfs tmpfs /run
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
ln -sf /proc/self/fd /dev/fd
mkdir -p /scratch/out
mount --bind /scratch/out /out

output=
for device in /sys/block/vd*; do
    if [ "$(cat "$device/serial")" = output ]; then output=/dev/${device##*/}; fi
done
if [ -z "$output" ]; then
    echo "there is no disk for the result"
    end 1
fi

/bin/sh /build/recipe.sh
code=$?
if [ "$code" = 0 ]; then
    # The disk is written like a tape.
    tar --create --file "$output" --directory /out packages.txt clients.json root.erofs
    code=$?
fi
end "$code"
