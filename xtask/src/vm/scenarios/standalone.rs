//! A node without a headnode: boots from the disk image, is set up by one command, and is a compute node from then on.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    super::{bed::Bed, boot::Boot, console::Console, qemu},
    vm,
};
use crate::{platform, run, say::Progress};

/// Bytes of the disk that has data on it.
const OTHER: u64 = 2 << 30;

/// From the power button to an instance that comes back after a power cut.
pub fn set_up(bed: &mut Bed) -> Result<()> {
    bed.cut()?;
    let mut progress = Progress::new(1);
    let built = platform::ensure(&platform::ImageArgs::default(), &mut Progress::new(platform::STEPS))?;
    let image = platform::disk_image(&built, &mut progress)?;
    let mut node = bed.blank("standalone")?;
    let other = node.place().dir.join("other.img");
    data(&other, &mut progress)?;
    let begin = first(&other)?;
    let boot = |uefi| Boot::Disk { image: &image, other: &other, uefi };

    let console = Console::from_now(&node.place().dir);
    node.power_on(boot(false))?;
    node.booted().context("the first boot of the disk image")?;
    console.wait_for("login:", Duration::from_secs(120))?;
    fresh(&mut node)?;
    refusals(&mut node)?;
    go(&mut node)?;
    node.reboot()?;
    configured(&mut node).context("after the reboot")?;
    instance(&mut node, bed, boot(true))?;
    ensure!(first(&other)? == begin, "the disk with data was written to");
    node.cut()
}

/// A file system with a file, as an operator's disk may have one.
fn data(path: &Path, progress: &mut Progress) -> Result<()> {
    fs::File::create(path).and_then(|file| file.set_len(OTHER)).with_context(|| format!("could not create {}", path.display()))?;
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-L", "precious"]).arg(path);
    run::succeed(command, Duration::from_secs(60), progress).map(drop)
}

/// The first 4 MiB.
fn first(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).with_context(|| format!("could not open {}", path.display()))?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, 4 << 20), &mut bytes)?;
    Ok(bytes)
}

/// Before the set-up: an address by DHCP, no failed unit, and little in the journal.
fn fresh(node: &mut Bed) -> Result<()> {
    let failed = node.run("systemctl list-units --failed --plain --no-legend --no-pager")?;
    ensure!(failed.trim().is_empty(), "units failed on a node that is not set up: {failed}");
    let medium = node.run("findmnt -n -o FSTYPE,OPTIONS /run/live/medium")?;
    ensure!(medium.starts_with("vfat") && medium.contains(" ro,"), "the medium is not the disk image's: {medium}");
    for tool in ["vmadm list", "imgadm list"] {
        let said = node.try_run(tool)?;
        ensure!(!said.success && !said.text.is_empty(), "`{tool}` on a node without a pool: {}", said.text);
    }
    // Units of ours wait without filling the journal.
    let lines = node.run("sleep 30; journalctl -b -o cat -p warning -u 'triton-*' --since -25s | wc -l")?;
    ensure!(lines.trim().parse::<u32>()? < 5, "agents of a node that is not set up say {lines} warnings in 25 s");
    Ok(())
}

/// What holds data or is in use is not taken, and a refusal changes nothing.
fn refusals(node: &mut Bed) -> Result<()> {
    let dev = |node: &mut Bed, serial: &str| -> Result<String> {
        Ok(node.run(&format!("basename $(readlink -f /dev/disk/by-id/virtio-{serial})"))?.trim().to_owned())
    };
    let (boot, other, blank) = (dev(node, "boot")?, dev(node, "other")?, dev(node, "zones")?);
    let admin = qemu::mac(0, node.place().number);
    let dry = node.run(&format!("cn-setup --dry-run --dhcp --admin-nic {admin}"))?;
    let line = |name: &str| dry.lines().find(|line| line.trim_start().starts_with(&format!("{name} "))).unwrap_or_default().to_owned();
    ensure!(line(&boot).contains("is in use: "), "the disk that the node boots from: {dry}");
    ensure!(line(&other).contains("holds ext4 \"precious\": left alone"), "the disk with data: {dry}");
    ensure!(line(&blank).contains("is empty: used") && dry.contains("pool zones: single"), "the blank disk: {dry}");
    ensure!(dry.contains("nothing was changed (--dry-run)"), "the dry run: {dry}");
    for (words, reason) in [
        (format!("--disk {other}"), format!("--erase {other} would destroy it")),
        (format!("--erase {boot}"), format!("{boot}: is in use")),
        ("--disk sdz".to_owned(), "is no disk of this machine".to_owned()),
        ("--nic-tag external=02:00:00:00:00:77".to_owned(), "02:00:00:00:00:77".to_owned()),
        ("--vlan 4095".to_owned(), "4095 is no VLAN".to_owned()),
    ] {
        let said = node.try_run(&format!("cn-setup --yes --dhcp --admin-nic {admin} {words}; [ $? -eq 2 ]"))?;
        ensure!(said.success && said.text.contains(&reason) && said.text.contains("nothing was changed"), "{words}: {}", said.text);
    }
    ensure!(node.run("zpool list -H -o name")?.trim().is_empty(), "a refusal made a pool");
    Ok(())
}

fn go(node: &mut Bed) -> Result<()> {
    let number = node.place().number;
    let (admin, wire) = (qemu::mac(0, number), qemu::mac(1, number));
    // Whoever runs it without a terminal and without --yes has not agreed.
    let words = format!(
        "--hostname cn-alone --admin-nic {admin} --address 10.0.2.15/24 --gateway 10.0.2.2 --resolver 10.0.2.3 --ntp 10.0.2.201 \
         --nic-tag external={wire} --datacenter alone --domain example.com"
    );
    let said = node.try_run(&format!("cn-setup {words} </dev/null; [ $? -eq 2 ]"))?;
    ensure!(said.success && said.text.contains("say --yes"), "without anybody to ask: {}", said.text);
    let said = node.run(&format!("cn-setup --yes {words}"))?;
    ensure!(said.contains("this node is set up"), "cn-setup said: {said}");
    let again = node.run(&format!("cn-setup --yes {words}"))?;
    ensure!(again.contains("this node is set up: nothing to do"), "a second call: {again}");
    Ok(())
}

/// After a boot, from what was kept on the pool alone.
fn configured(node: &mut Bed) -> Result<()> {
    vm::sound(node)?;
    ensure!(node.run("hostname")?.trim() == "cn-alone", "the node's name");
    let addresses = node.run("ip -4 -o addr show")?;
    let line = addresses.lines().find(|line| line.contains("inet 10.0.2.15/24 ")).with_context(|| format!("no address: {addresses}"))?;
    ensure!(line.contains("valid_lft forever"), "the address is not the configuration's: {line}");
    let routes = node.run("ip route show default")?;
    ensure!(routes.contains("via 10.0.2.2"), "the router: {routes}");
    let names = node.run("cat /etc/resolv.conf")?;
    ensure!(names.contains("\nsearch alone.example.com\nnameserver 10.0.2.3\n"), "where names are looked up: {names}");
    let sysinfo: Value = serde_json::from_str(&node.run("sysinfo")?)?;
    ensure!(sysinfo["Setup"] == true && sysinfo["Zpool"] == "zones" && sysinfo["Admin IP"] == "10.0.2.15", "sysinfo: {sysinfo}");
    let tags = node.run("nictagadm list -p -d '|'")?;
    ensure!(tags.contains("admin|") && tags.contains("external|"), "the nic tags: {tags}");
    for dataset in ["/opt", "/var", "/zones/config", "/zones/global/cores"] {
        ensure!(node.run(&format!("findmnt -n -o FSTYPE {dataset}"))?.trim() == "zfs", "{dataset} is not a dataset");
    }
    for unit in ["triton-metadata-agent", "triton-net-agent", "ssh", "chrony"] {
        ensure!(node.run(&format!("systemctl is-active {unit} || true"))?.trim() == "active", "{unit} does not run");
    }
    Ok(())
}

/// An instance runs, and runs again after a power cut. That boot is by the other firmware.
fn instance(node: &mut Bed, bed: &Bed, boot: Boot<'_>) -> Result<()> {
    let image = crate::image::ensure(&crate::image::cache_folder(), node.progress()).context("could not build the image of the guests")?;
    let above = image.file.parent().context("the image has no folder")?;
    node.push(&[above.join("manifest.json"), image.file.clone()], "/zones/new")?;
    node.run("imgadm install -m /zones/new/manifest.json -f /zones/new/*.tar.gz")?;
    let uuid = node.run("jq -r .uuid /zones/new/manifest.json")?.trim().to_owned();
    let uuid = vm::create(node, &vm::payload(&uuid, 5, true))?;
    vm::await_state(node, &uuid, "running")?;
    node.run("sync")?;
    node.cut()?;
    ensure!(bed.state().running().is_none(), "one machine at a time");
    node.power_on(boot)?;
    node.booted().context("the boot by UEFI after a power cut")?;
    ensure!(node.run("ls -d /sys/firmware/efi").is_ok(), "this boot was not by UEFI");
    configured(node).context("after a power cut")?;
    vm::await_state(node, &uuid, "running")?;
    ensure!(vm::guest(node, &uuid, "ip addr")?.contains("10.64.0.5/24"), "the guest has no address");
    Ok(())
}
