#!/bin/sh
# Builds the guest image. Runs as root of the build root; reads /build, works in /scratch, leaves results in /out.
set -eu
umask 022
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
export TMPDIR=/scratch/tmp
mkdir -p /scratch/tmp /out
chmod 1777 /scratch/tmp

echo "==> installing Debian packages"
xargs -d '\n' mmdebstrap < /build/arguments

mkdir -p /scratch/root/usr/lib/modules
cp -a /build/modules/. /scratch/root/usr/lib/modules/

echo "==> recording what is in the image"
dpkg-query --admindir=/scratch/root/var/lib/dpkg -W -f '${Package}\t${Version}\n' > /out/packages.txt
cp /scratch/root/usr/share/sandbox/clients.json /out/clients.json

# Whoever builds it, and wherever, gets the same image: no device nodes (the kernel makes them), no inode numbers.
rm -rf /scratch/root/dev /scratch/root/var/cache/ldconfig/aux-cache
mkdir /scratch/root/dev

echo "==> packing the image"
# shellcheck disable=SC2046 # one word a line, written by us
mkfs.erofs $(cat /build/filesystem) /out/root.erofs /scratch/root
echo "==> image ready"
