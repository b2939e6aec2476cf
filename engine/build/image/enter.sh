#!/bin/sh
# Started in mount and process namespaces of its own: enter.sh BUILD_ROOT WORK OUTPUT directory|tmpfs
set -eu
root=$1 work=$2 output=$3 memory=$4
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
if [ "$memory" = tmpfs ]; then
    mount -t tmpfs -o mode=0755 tmpfs "$root/scratch"
else
    mount --bind "$work" "$root/scratch"
fi
mount --bind "$output" "$root/out"
# Names are resolved as on the host.
for file in resolv.conf hosts; do
    if [ -e "/etc/$file" ]; then cat "/etc/$file" > "$root/etc/$file"; fi
done
exec chroot "$root" /bin/sh /build/recipe.sh
