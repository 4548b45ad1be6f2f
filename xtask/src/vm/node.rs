//! What makes a booted machine a node that was set up: the pool, its datasets, the configuration, the choice of storage.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use serde_json::json;
use triton_files::Layout;
use triton_storage::Storage;
use triton_types::StorageKind;

use super::{args::PrepareArgs, qemu, ssh::Ssh};
use crate::{platform, say::Progress, workspace};

/// Name of the pool, as on every node.
pub const POOL: &str = "zones";

/// Where the test bed's own files are on the node: on the pool, so that they take no memory.
pub const BED: &str = "/zones/testbed";

/// The pool on the disk that has its name, with the datasets that a set-up node has. The disk is this test bed's own; a pool
/// that is there is left alone. `/var` is mounted over the image's, which was copied into it.
const SETUP: &str = r"set -eu
modprobe zfs
if ! zpool list zones >/dev/null 2>&1; then
    zpool import -N zones 2>/dev/null || zpool create -o ashift=12 -O atime=off -O compression=lz4 -O acltype=posixacl -O xattr=sa -m /zones zones /dev/disk/by-id/virtio-zones
fi
zfs mount zones 2>/dev/null || mountpoint -q /zones
have() { zfs list -H -o name zones/$1 >/dev/null 2>&1; }
have config || zfs create -o compression=off zones/config
have cores || zfs create -o mountpoint=none zones/cores
have cores/global || zfs create -o quota=10g -o mountpoint=/zones/global/cores zones/cores/global
have opt || zfs create -o mountpoint=/opt zones/opt
have testbed || zfs create -o sync=disabled zones/testbed
if ! have var; then
    # Built aside and named last: a set-up that was cut off begins again.
    ! have newvar || zfs destroy -r zones/newvar
    zfs create -o mountpoint=legacy -o atime=on zones/newvar
    mkdir -p /run/newvar
    mount -t zfs zones/newvar /run/newvar
    cp -a /var/. /run/newvar/
    rm -rf /run/newvar/log/journal/*
    umount /run/newvar
    rmdir /run/newvar
    zfs rename zones/newvar zones/var
    # It cannot be mounted yet, /var is in use: that is said as a failure, the property is set all the same.
    zfs set mountpoint=/var zones/var 2>/dev/null || true
fi
for d in zones/config zones/cores/global zones/opt zones/testbed zones/var; do
    [ $(zfs get -H -o value mounted $d) = yes ] || zfs mount -O $d
done
mkdir -p /opt/triton/config /opt/smartdc/agents/etc
cp -an /usr/triton/config/. /opt/triton/config/ 2>/dev/null || true
: >/zones/.system_pool
/usr/triton/bin/system-pool
# Its files were on the old /var.
systemctl restart systemd-journald.service
";

/// Sets the node up through ssh; doing it again changes nothing.
pub fn set_up(ssh: &Ssh, number: u8, progress: &mut Progress) -> Result<()> {
    ssh.run(SETUP, Duration::from_secs(300), progress).context("could not set up the pool")?;
    let own = platform::stripped(&workspace::target_folder()?.join("debug/xtask"), &platform::stripped_folder("debug")?)?;
    ssh.push(&[own], &format!("{BED}/"), progress)?;
    let [admin, wire] = [qemu::mac(0, number), qemu::mac(1, number)];
    let script = format!("{BED}/xtask prepare-node --pool {POOL} --admin {admin} --wire {wire}");
    ssh.run(&script, Duration::from_secs(120), progress).map(drop)
}

/// The hidden verb that runs on the node: what its setup would have left there. The networks come with the next boot.
pub fn prepare(args: &PrepareArgs) -> Result<ExitCode> {
    let layout = Layout::new("/");
    layout.prepare()?;
    Storage::choose(&layout, StorageKind::Zfs, &args.pool)
        .with_context(|| format!("could not keep instances in the pool {}", args.pool))?;
    let config = layout.config();
    let networking = json!({
        "admin_tag": "admin",
        "datacenter_name": "vm",
        "dns_domain": "example.com",
        "nictags": [{"name": "admin", "mac": args.admin, "mtu": 1500}, {"name": "external", "mac": args.wire, "mtu": 1500}],
        "vnics": [{"mac": args.admin, "nic_tag": "admin", "vlan_id": 0, "ip": "dhcp", "primary": true}],
    });
    triton_files::write_json(&config.join("triton-networking.json"), &networking, 0o644)?;
    triton_files::write_atomic(&config.join("node.config"), b"datacenter_name='vm'\ndns_domain='example.com'\n", 0o644)?;
    triton_files::write_json(&config.join("triton-setup-state.json"), &json!({"complete": true}), 0o644)?;
    Ok(ExitCode::SUCCESS)
}
