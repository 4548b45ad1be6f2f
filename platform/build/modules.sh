#!/bin/sh
# Called by mmdebstrap with the root as its argument, after all packages are installed and the ZFS module was compiled.
# Keeps the compiled modules, puts a package in place that stands for them, and removes what compiled them: the package that
# owns the source would take them along.
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
# What the module was compiled with is part of what the base is, and is gone from it at the end.
chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' | LC_ALL=C sort >"$(dirname "$root")/packages"

# dkms signs with a key that it makes for the occasion; without that, the same source gives the same bytes.
kept="$root/lib/modules/$release/extra"
mkdir -p "$kept"
for module in "$compiled"/*.ko*; do
    name="$(basename "${module%.xz}")"
    case "$module" in
    *.xz) xz -dc "$module" >"$kept/$name" ;;
    *) cp "$module" "$kept/$name" ;;
    esac
    chroot "$root" strip --strip-debug "/lib/modules/$release/extra/$name"
    xz --check=crc32 --lzma2=dict=1MiB -T1 "$kept/$name"
done

# The tools depend on a package that provides the modules: from here on that is this one.
version="$(chroot "$root" dpkg-query -W -f '${Version}' zfs-dkms)"
package="$root/tmp/triton-zfs-modules"
mkdir -p "$package/DEBIAN"
printf '%s\n' 'Package: triton-zfs-modules' "Version: $version" 'Architecture: all' 'Maintainer: Triton <root@localhost>' \
    'Provides: zfs-modules' 'Description: OpenZFS modules of this image, compiled for its kernel' >"$package/DEBIAN/control"
chroot "$root" dpkg-deb --build --root-owner-group /tmp/triton-zfs-modules /tmp/triton-zfs-modules.deb
chroot "$root" dpkg -i /tmp/triton-zfs-modules.deb
rm -rf "$package" "$package.deb"
# Nothing of the removal needs an initrd: one is made when the image is finished.
chroot "$root" apt-get -q -y -o Dpkg::Use-Pty=0 purge "$@" dkms
chroot "$root" apt-get -q -y -o Dpkg::Use-Pty=0 autoremove --purge
rm -rf "$root/lib/modules/$release/updates" "$root/usr/src" "$root/var/lib/dkms"
rm -f "$root/lib/modules/$release/build" "$root/lib/modules/$release/source"
mkdir -p "$root/usr/src"
chroot "$root" depmod "$release"
chroot "$root" modinfo -k "$release" zfs >/dev/null
