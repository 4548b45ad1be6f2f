#!/bin/sh
# Finishes a root on top of the base: our files, our programs, the initrd, then the squashfs.
# Runs in a mount namespace of its own, so that nothing stays mounted however it ends.
#
# In the environment: BASE the base root, WORK an empty folder, OVERLAY the files to lay over, PROGRAMS a folder with our
# programs, STAMP the release, OUT the folder for the results, SOURCE_DATE_EPOCH the time of everything.
set -eu
root="$WORK/root"
mkdir -p "$WORK/upper" "$WORK/scratch" "$root"
mount -t overlay overlay -o "lowerdir=$BASE,upperdir=$WORK/upper,workdir=$WORK/scratch" "$root"

echo "step: files of the platform"
cp -a --no-preserve=ownership "$OVERLAY/." "$root/"
mkdir -p -m 755 "$root/usr/triton/bin" "$root/usr/triton/config" "$root/usr/triton/log" "$root/opt" "$root/zones"
cp "$root/usr/triton/defaults/systemd.env" "$root/usr/triton/config/systemd.env"

echo "step: programs"
for program in "$PROGRAMS"/*; do
    name="$(basename "$program")"
    install -m 755 "$program" "$root/usr/triton/bin/$name"
done
# What guests see at /native: the tools that lx images link to, and the place for their metadata socket.
mkdir -p -m 755 "$root/usr/triton/native/usr/sbin" "$root/usr/triton/native/.zonecontrol"
mv "$root/usr/triton/bin/mdata" "$root/usr/triton/native/usr/sbin/mdata"
for name in get put delete list; do
    ln -s mdata "$root/usr/triton/native/usr/sbin/mdata-$name"
done
# Operators and scripts of headnodes call the tools by these paths.
for name in vmadm imgadm sysinfo nictagadm fwadm cn-setup triton-netconf net-agent zonename bootparams sdc-factoryreset; do
    ln -sf "../triton/bin/$name" "$root/usr/bin/$name"
    ln -sf "../triton/bin/$name" "$root/usr/sbin/$name"
done

# Agents of SmartOS source the configuration by this path.
mkdir -p "$root/usr/lib/sdc"
ln -sf ../../triton/bin/config.sh "$root/usr/lib/sdc/config.sh"

echo "step: names"
echo "debian-live-$STAMP" >"$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
sed -i '/^TRITON_RELEASE=/d' "$root/usr/lib/os-release"
echo "TRITON_RELEASE=\"$STAMP\"" >>"$root/usr/lib/os-release"
printf 'Name: Triton Compute Node\nImage: platform-linux %s\nDescription: Debian with OpenZFS and LXC under Triton\n' "$STAMP" >"$root/etc/product"
printf 'Triton compute node, platform %s  \\n \\l\n\n' "$STAMP" >"$root/etc/issue"
printf 'Triton compute node, platform %s\n' "$STAMP" >"$root/etc/motd"
# /var becomes a dataset that dates from a node's setup: the list of packages belongs to the image.
mkdir -p "$root/.var/lib"
for name in dpkg apt; do
    mv "$root/var/lib/$name" "$root/.var/lib/$name"
    ln -s "../../.var/lib/$name" "$root/var/lib/$name"
done

echo "step: initrd"
release="$(ls "$root/lib/modules")"
for name in proc sys dev; do mount --rbind "/$name" "$root/$name"; done
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
chroot "$root" env SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" DEBIAN_FRONTEND=noninteractive TMPDIR=/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    mkinitramfs -o "/tmp/initrd" "$release"
cp "$root/tmp/initrd" "$OUT/initrd"
cp "$BASE/boot/vmlinuz-$release" "$OUT/vmlinuz"
umount -l "$root/tmp" "$root/run" "$root/dev" "$root/sys" "$root/proc"
cp "$root/usr/lib/os-release" "$OUT/os-release"
echo "$release" >"$OUT/kernel"
chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' | LC_ALL=C sort >"$OUT/filesystem.packages"

echo "step: squashfs"
# Our files get one time; Debian's have theirs.
find "$WORK/upper" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
env -u SOURCE_DATE_EPOCH mksquashfs "$root" "$OUT/filesystem.squashfs" -noappend -comp zstd -Xcompression-level "${LEVEL:-6}" \
    -mkfs-time "$SOURCE_DATE_EPOCH" -no-progress -quiet -wildcards -e 'boot/*' 'proc/*' 'sys/*' 'dev/*' 'run/*' 'tmp/*'
