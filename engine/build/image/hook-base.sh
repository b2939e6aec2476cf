#!/bin/sh
# First hook: what is installed now is a minimal Debian. It becomes the container image localhost/debian:13.
set -eu
root=$1
# mmdebstrap numbers the lists it is given; people look for this one.
mv "$root"/etc/apt/sources.list.d/*sources.list "$root/etc/apt/sources.list"
if ls /build/certificates/*.crt > /dev/null 2>&1; then
    mkdir -p "$root/usr/local/share/ca-certificates"
    cp /build/certificates/*.crt "$root/usr/local/share/ca-certificates/"
fi
chroot "$root" update-ca-certificates
# No manual is installed, but Java links to pages of its own there, and cannot be installed without these.
for section in 1 2 3 4 5 6 7 8; do mkdir -p "$root/usr/share/man/man$section"; done
echo "==> packing the container base image"
mkdir -p "$root/usr/share/sandbox"
# Services must not start when packages are installed into a container: mmdebstrap's policy-rc.d stays in, on purpose.
pack() {
    tar --file /scratch/debian-13.tar --numeric-owner --sort=name --mtime="@$(cat /build/epoch)" "$@"
}
# The three of /etc are the container's own at run time; while this runs they are copies of the build host's.
pack --create --directory "$root" --one-file-system \
    --exclude='./dev/*' --exclude='./proc' --exclude='./sys' --exclude='./tmp/*' --exclude='./run/*' \
    --exclude='./var/lib/apt/lists/*' --exclude='./var/cache/apt/*' --exclude='./var/cache/ldconfig/*' \
    --exclude='./etc/resolv.conf' --exclude='./etc/hostname' --exclude='./etc/hosts' \
    --exclude='./var/log/*' --exclude='./usr/share/sandbox' .
# These two are mounted here, and their owner depends on who did.
mkdir -p /scratch/empty/proc /scratch/empty/sys
chmod 0555 /scratch/empty/proc /scratch/empty/sys
pack --append --directory /scratch/empty ./proc ./sys
mv /scratch/debian-13.tar "$root/usr/share/sandbox/debian-13.tar"
