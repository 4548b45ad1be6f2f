#!/bin/sh
# Called by mmdebstrap with the root as its argument, last. Removes what a machine must have of its own, what must not be
# the same on every node, and traces of the machine that built the image.
set -eu
root="$1"
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/dbus/machine-id" "$root/etc/hostid" "$root/etc/hostname"
rm -f "$root/etc/apt/preferences.d/triton-lock" "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/* "$root"/etc/apt/apt.conf.d/99mmdebstrap
rm -f "$root"/initrd.img* "$root"/vmlinuz* "$root"/boot/initrd.img*
rm -rf "$root"/root "$root"/var/lib/apt/lists "$root"/var/cache/apt "$root"/var/cache/debconf "$root"/var/lib/systemd/random-seed
mkdir -m 700 "$root/root"
mkdir -p "$root/var/lib/apt/lists/partial" "$root/var/cache/apt/archives/partial" "$root/var/cache/debconf"
find "$root/var/log" -type f -delete
find "$root/var/cache/ldconfig" -type f -delete 2>/dev/null || true
find "$root/usr" -name '*.pyc' -delete
rm -f "$root"/etc/passwd- "$root"/etc/group- "$root"/etc/shadow- "$root"/etc/gshadow- "$root"/etc/subuid- "$root"/etc/subgid-
# Its own resolvers, not the building machine's: bin/resolv-conf writes them.
ln -sf ../run/triton/resolv.conf "$root/etc/resolv.conf"
# Empty, not absent: a boot without it counts as the first, and systemd would then enable every service it finds.
: >"$root/etc/machine-id"
# Root logs in on the console without a password until the headnode's configuration sets one.
chroot "$root" passwd -q -d root
