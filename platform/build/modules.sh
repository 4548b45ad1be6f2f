#!/bin/sh
# Called by mmdebstrap with the root as its argument, after all packages are installed and the ZFS module was compiled.
# Keeps the compiled modules and removes what compiled them: the package that owns the source would take them along.
set -eu
root="$1"
shift
release="$(ls "$root/lib/modules")"
if [ "$(echo "$release" | wc -w)" -ne 1 ]; then
    echo "modules.sh: one kernel was to be installed, found: $release" >&2
    exit 1
fi
compiled="$root/lib/modules/$release/updates/dkms"
if ! ls "$compiled"/zfs.ko* >/dev/null 2>&1; then
    echo "modules.sh: no ZFS module was compiled for $release; the end of its log:" >&2
    tail -n 40 "$root"/var/lib/dkms/zfs/*/build/make.log >&2 || true
    exit 1
fi
kept="$root/lib/modules/$release/extra"
mkdir -p "$kept"
cp -p "$compiled"/*.ko* "$kept/"
# Nothing of the removal needs an initrd: one is made when the image is finished.
chroot "$root" apt-get -q -y -o Dpkg::Use-Pty=0 purge "$@" dkms
chroot "$root" apt-get -q -y -o Dpkg::Use-Pty=0 autoremove --purge
rm -rf "$root/lib/modules/$release/updates" "$root/usr/src" "$root/var/lib/dkms"
rm -f "$root/lib/modules/$release/build" "$root/lib/modules/$release/source"
mkdir -p "$root/usr/src"
chroot "$root" depmod "$release"
chroot "$root" modinfo -k "$release" zfs >/dev/null
