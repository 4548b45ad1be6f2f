//! Which pool becomes the system pool, and what never happens to any other (platform.md section 4.3, invariant 5).

use anyhow::{Result, ensure};

use super::{super::bed::Bed, vm};

/// The second disk of the node.
const SPARE: &str = "/dev/disk/by-id/virtio-spare";

/// What the boot said about pools, on the console too.
const SAID: &str = "journalctl -b -k --no-pager -o cat | grep system-pool:";

/// platform cases 4 to 7: the marker decides; a reset destroys that pool and no other; a doubt destroys none.
pub fn marker_and_reset(bed: &mut Bed) -> Result<()> {
    // Sorted before the system pool; its disk holds data of somebody else.
    bed.run(&format!("set -e; zpool create -m /somewhere aaa {SPARE}; echo theirs >/somewhere/file; sync"))?;
    bed.cut()?;
    bed.boot("foo_noimport=truex")?;
    vm::sound(bed)?;
    ensure!(bed.run("readlink /run/triton/system_pool")?.trim() == "/zones/", "the pool with the marker is not the system pool");
    ensure!(bed.run("zfs get -H -o value mounted aaa")?.trim() == "no", "a pool without the marker was mounted");
    in_order(bed)?;

    // Two with the marker: the first one by name is used, that is said, and no reset is done on a guess.
    bed.run("set -e; zfs mount aaa; cp /zones/.system_pool /somewhere/; zfs unmount aaa; zfs set smartdc:note=here aaa; sync")?;
    bed.cut()?;
    bed.boot("destroy_zpools=true")?;
    let pools = bed.run("zpool list -H -o name")?;
    ensure!(pools.split_whitespace().eq(["aaa", "zones"]), "a reset with two marked pools destroyed one: {pools}");
    let said = bed.run(SAID)?;
    ensure!(said.contains("have the marker too") && said.contains("not done"), "the doubt is not named: {said}");
    bed.run("set -e; mountpoint -q /somewhere; rm /somewhere/.system_pool; sync")?;

    // A reset by the boot server: the system pool goes, the other stays as it was.
    bed.cut()?;
    bed.boot("destroy_zpools=true")?;
    let pools = bed.run("zpool list -H -o name")?;
    ensure!(pools.trim() == "aaa", "after the reset there is {pools}");
    ensure!(bed.run("zfs mount aaa && cat /somewhere/file")?.contains("theirs"), "the other pool lost its file");
    ensure!(!bed.try_run("test -e /run/triton/system_pool || mountpoint -q /opt")?.success, "something of the pool is still there");
    let setup = bed.run("sysinfo 2>/dev/null | jq -r .Setup")?;
    ensure!(setup.trim() == "false", "sysinfo says Setup {setup}");
    let failed = bed.run("systemctl list-units --failed --plain --no-legend --no-pager")?;
    ensure!(failed.trim().is_empty(), "units failed on a node that is not set up: {failed}");
    Ok(())
}

/// The property that `sdc-factoryreset` and the headnode's workflow set does it at the next boot; a pool that another machine
/// used last is not touched.
pub fn reset_by_property(bed: &mut Bed) -> Result<()> {
    let foreign = format!(
        "set -e; own=$(cat /sys/module/spl/parameters/spl_hostid); echo 305419896 >/sys/module/spl/parameters/spl_hostid; \
         zpool create -m none foreign {SPARE}; echo $own >/sys/module/spl/parameters/spl_hostid; \
         zfs set smartdc:factoryreset=yes zones/var; sync"
    );
    bed.run(&foreign)?;
    bed.cut()?;
    bed.boot("")?;
    let pools = bed.run("zpool list -H -o name")?;
    ensure!(pools.trim() == "", "after the reset there is {pools}");
    let said = bed.run(SAID)?;
    ensure!(said.contains("zones is destroyed") && said.contains("foreign was not imported"), "the boot said: {said}");
    let there = bed.run("zpool import")?;
    ensure!(there.contains("pool: foreign"), "the other machine's pool is gone: {there}");
    ensure!(!there.contains("pool: zones"), "the system pool is still there: {there}");
    Ok(())
}

/// Datasets were mounted before anything wrote below them, parents first, and the journal of every boot is kept.
fn in_order(bed: &mut Bed) -> Result<()> {
    for path in ["/zones", "/opt", "/var", "/zones/config", "/zones/global/cores"] {
        ensure!(bed.try_run(&format!("mountpoint -q {path}"))?.success, "{path} is not mounted");
    }
    let config = bed.run("readlink -f /usr/triton/config")?;
    ensure!(config.trim() == "/opt/triton/config", "the configuration is {config}");
    let boots = bed.run("journalctl --list-boots --no-pager -o json 2>/dev/null | tr -d '\\n' | jq -s 'flatten | length'")?;
    ensure!(boots.trim().parse::<u32>().is_ok_and(|boots| boots >= 1), "the journal holds {boots} boots");
    let lines = bed.run("journalctl -b -k --no-pager | wc -l")?;
    ensure!(lines.trim().parse::<u32>().is_ok_and(|lines| lines > 100), "the journal has {lines} lines of this boot's kernel");
    Ok(())
}
