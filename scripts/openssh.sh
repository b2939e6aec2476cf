#!/bin/sh
# Unpack OpenSSH's server into $1, for the tests of `sandbox ssh-config`: Debian's own package, which is not installed,
# so that nothing listens. Any user may; without a package source the tests are skipped and say so.
set -eu
target=$1
[ ! -d "$target" ] || exit 0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
cd "$scratch"
for package in openssh-server openssh-sftp-server openssh-client libwrap0; do
    apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$package"
done
mkdir root
for archive in ./*.deb; do dpkg-deb -x "$archive" root; done
mkdir -p "$(dirname "$target")"
mv root "$target"
