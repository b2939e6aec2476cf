#!/bin/sh
# Builds the guest image. Runs as root of the build root; reads /build, works in /work, leaves results in /out.
set -eu
umask 022
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
export TMPDIR=/work/tmp
mkdir -p /work/tmp /out
chmod 1777 /work/tmp

echo "==> installing Debian packages"
xargs -d '\n' mmdebstrap < /build/arguments

mkdir -p /work/root/usr/lib/modules
cp -a /build/modules/. /work/root/usr/lib/modules/

echo "==> recording what is in the image"
dpkg-query --admindir=/work/root/var/lib/dpkg -W -f '${Package}\t${Version}\n' > /out/packages.txt
cp /work/root/usr/share/sandbox/clients.json /out/clients.json

# Whoever builds it, and wherever, gets the same image: no device nodes (the kernel makes them), no inode numbers.
rm -rf /work/root/dev /work/root/var/cache/ldconfig/aux-cache
mkdir /work/root/dev

echo "==> packing the image"
# shellcheck disable=SC2046 # one word a line, written by us
mkfs.erofs $(cat /build/filesystem) /out/root.erofs /work/root
echo "==> image ready"
