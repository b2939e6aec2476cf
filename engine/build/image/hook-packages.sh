#!/bin/sh
# Second hook: the packages of the guest, its user, and a record of how its package clients are configured.
set -eu
root=$1
# shellcheck disable=SC2046 # one package a line, written by us
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --yes --no-install-recommends install $(cat /build/packages)

chroot "$root" useradd --create-home --uid 1000 --user-group --groups docker --shell /bin/bash agent
mkdir -p "$root/etc/sudoers.d"
echo 'agent ALL=(ALL:ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/agent"
chmod 0440 "$root/etc/sudoers.d/agent"
chroot "$root" install -d -o agent -g agent /workspace

# sshd is started for one connection at a time, on pipes, with a key of its own: no unit listens, and no key is in the
# image. systemd's generator would have it listen on vsock and on a unix socket, just because it is installed.
chroot "$root" systemctl disable ssh.service ssh.socket
rm -f "$root"/etc/ssh/ssh_host_*
mkdir -p "$root/etc/systemd/system-generators"
ln -s /dev/null "$root/etc/systemd/system-generators/systemd-ssh-generator"

echo "==> asking the package clients for their configuration"
cp /build/clients.py "$root/usr/share/sandbox/clients.py"
chroot "$root" python3 -I /usr/share/sandbox/clients.py > "$root/usr/share/sandbox/clients.json"
rm "$root/usr/share/sandbox/clients.py"
rm -rf "$root/root/.npm" "$root/root/.cache"

# Every machine gets its own; "empty" and not "absent", which systemd would take for a first boot.
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root/etc/hostname" "$root/etc/resolv.conf"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/log/*.log "$root"/var/log/apt
